//! gRPC over a unix socket, with the few messages that are needed written by hand.
//!
//! Field numbers are those of the published .proto files. Fields that are not needed are left out, which protobuf allows: so
//! there is no generator to run and no thousand generated types to compile.

use std::fmt;
use std::path::Path;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// A list of containers may be long: 64 MiB are more than 50,000.
const LARGEST_BYTES: usize = 64 << 20;

/// A connection to a runtime. Calls may be made at once: a runtime takes its time for each.
pub struct Client(tonic::client::Grpc<Channel>);

/// A call that failed.
#[derive(Debug)]
pub struct Failed {
    method: &'static str,
    status: Status,
}

impl Client {
    /// Connects to a unix socket; the error is the system's own words.
    pub async fn connect(socket: &Path) -> Result<Self, String> {
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        // The address is not used: the connector knows where to go.
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(connector).await.map_err(|error| root_cause(&error))?;
        Ok(Self(tonic::client::Grpc::new(channel).max_decoding_message_size(LARGEST_BYTES)))
    }

    /// Calls one method. `partition` is containerd's namespace, which goes in the metadata.
    pub async fn call<Q, A>(
        &self,
        method: &'static str,
        question: Q,
        partition: Option<&str>,
    ) -> Result<A, Failed>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let failed = |status| Failed { method, status };
        let mut request = Request::new(question);
        if let Some(partition) = partition {
            let value = MetadataValue::try_from(partition).map_err(|_| {
                failed(Status::invalid_argument("a containerd namespace with illegal characters"))
            })?;
            request.metadata_mut().insert("containerd-namespace", value);
        }
        let mut channel = self.0.clone();
        channel.ready().await.map_err(|error| failed(Status::unavailable(root_cause(&error))))?;
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(method);
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        Ok(channel.unary(request, path, codec).await.map_err(failed)?.into_inner())
    }
}

impl Failed {
    /// The call went well, and what it answered makes no sense.
    pub(super) fn nonsense(method: &'static str, why: impl Into<String>) -> Self {
        Self { method, status: Status::data_loss(why) }
    }

    /// Whether the runtime does not have this service (or has it switched off).
    pub(super) fn is_absent(&self) -> bool {
        self.status.code() == Code::Unimplemented
    }

    /// Whether the runtime does not have what was asked for.
    pub(super) fn is_not_found(&self) -> bool {
        self.status.code() == Code::NotFound
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.method.rsplit('/').next().unwrap_or(self.method);
        let cause = std::error::Error::source(&self.status).map(root_cause);
        match cause.as_deref().unwrap_or(self.status.message()) {
            // What tonic says when the connection ended without an error of the system.
            "transport error" => write!(f, "{name}: the connection broke off, or was not gRPC"),
            cause => write!(f, "{name}: {cause}"),
        }
    }
}

/// The innermost error: "Connection refused" instead of "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
