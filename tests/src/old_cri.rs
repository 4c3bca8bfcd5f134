//! A real runtime's CRI as it was before v1: a proxy that does not know `runtime.v1`, and passes on the rest.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{Request, Response};
use tokio::net::{UnixListener, UnixStream};

/// gRPC's UNIMPLEMENTED.
const UNIMPLEMENTED: &str = "12";

/// Serves on `socket` until the test ends, on a thread of its own.
pub fn serve_v1alpha2(socket: &str, of: &'static str) {
    std::fs::create_dir_all(Path::new(socket).parent().expect("a directory")).expect("a directory");
    let listener = std::os::unix::net::UnixListener::bind(socket).expect("a socket");
    listener.set_nonblocking(true).expect("a socket");
    std::thread::spawn(move || {
        let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a reactor");
        reactor.block_on(async {
            let listener = UnixListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, of));
            }
        });
    });
}

async fn connection(stream: UnixStream, of: &str) -> Option<()> {
    let (client, driver) = h2::client::handshake(UnixStream::connect(of).await.ok()?).await.ok()?;
    tokio::spawn(driver);
    let mut server = h2::server::handshake(stream).await.ok()?;
    while let Some(Ok((request, mut respond))) = server.accept().await {
        if request.uri().path().starts_with("/runtime.v1.") {
            let refusal = Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", UNIMPLEMENTED)
                .header("grpc-message", "unknown service runtime.v1.RuntimeService");
            respond.send_response(refusal.body(()).ok()?, true).ok()?;
        } else {
            tokio::spawn(forward(request, respond, client.clone()));
        }
    }
    Some(())
}

async fn forward(
    request: Request<RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    mut client: h2::client::SendRequest<Bytes>,
) -> Option<()> {
    let (head, mut body) = request.into_parts();
    let question = all(&mut body).await?;
    let (answer, mut sending) = client.send_request(Request::from_parts(head, ()), false).ok()?;
    sending.send_data(question, true).ok()?;
    let (head, mut body) = answer.await.ok()?.into_parts();
    let data = all(&mut body).await?;
    let trailers = body.trailers().await.ok()?.unwrap_or_default();
    let mut sending = respond.send_response(Response::from_parts(head, ()), false).ok()?;
    sending.send_data(data, false).ok()?;
    sending.send_trailers(trailers).ok()
}

async fn all(body: &mut RecvStream) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part.ok()?;
        body.flow_control().release_capacity(part.len()).ok()?;
        whole.extend_from_slice(&part);
    }
    Some(whole.freeze())
}
