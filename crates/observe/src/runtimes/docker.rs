//! Docker's Engine API, which Podman speaks too (<https://docs.docker.com/reference/api/engine/>).

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use model::{RuntimeObject, RuntimeObjectKind, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Answer, Wanted};

/// A list of containers may be long.
const LARGEST_BYTES: usize = 64 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    created: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: State,
    #[serde(default)]
    network_settings: Option<NetworkSettings>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    pid: u32,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    sandbox_key: String,
    networks: Option<HashMap<String, Network>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Network {
    #[serde(rename = "IPAddress")]
    v4: String,
    #[serde(rename = "GlobalIPv6Address")]
    v6: String,
}

/// Lists all containers, with what can be learned of each.
pub(super) async fn ask(socket: &Path, wanted: &Wanted) -> Result<Answer, String> {
    let mut client = Client::connect(socket).await?;
    let version: Version = client.get("/version").await?.ok_or("no /version: this is no Docker API")?;
    if version.version.is_empty() {
        return Err("GET /version: no version: this is no Docker API".to_owned());
    }
    let listed: Vec<Listed> = client.get("/containers/json?all=1").await?.ok_or("no list of containers")?;
    let mut objects = Vec::new();
    for container in listed {
        let id = container.id.parse().map_err(|error: model::IdError| error.to_string())?;
        // One that was removed after the list was made (404) stays as it was listed: that errs on the safe side.
        let names = container.names.iter().flatten().map(|name| name.trim_start_matches('/'));
        let inspected: Option<Inspected> = match wanted.fits(&container.id, names) {
            true => client.get(&format!("/containers/{id}/json")).await?,
            false => None,
        };
        let settings = inspected.as_ref().and_then(|inspected| inspected.network_settings.as_ref());
        let networks = settings.and_then(|settings| settings.networks.as_ref());
        let addresses = networks.into_iter().flat_map(|networks| networks.values());
        let addresses = addresses.flat_map(|network| [&network.v4, &network.v6]);
        let key = settings.map(|settings| &settings.sandbox_key).filter(|key| !key.is_empty());
        objects.push(RuntimeObject {
            id,
            kind: RuntimeObjectKind::Container,
            partition: None,
            name: container
                .names
                .unwrap_or_default()
                .first()
                .map(|name| name.trim_start_matches('/').to_owned()),
            pod: None,
            sandbox: None,
            state: container.state,
            pid: inspected.as_ref().map(|inspected| inspected.state.pid).filter(|pid| *pid > 0),
            netns: key.map(PathBuf::from),
            addresses: addresses.filter_map(|text| text.parse::<IpAddr>().ok()).collect(),
            created: Some(Timestamp(container.created * 1000)),
            doubt: None,
        });
    }
    Ok(Answer { version: version.version, objects })
}

struct Client(SendRequest<Empty<Bytes>>);

impl Client {
    async fn connect(socket: &Path) -> Result<Self, String> {
        let stream = tokio::net::UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Gets a JSON document; `None` for 404.
    async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<Option<T>, String> {
        let failed = |what: &dyn std::fmt::Display| format!("GET {path}: {what}");
        let request =
            Request::get(path).header("Host", "docker").body(Empty::new()).map_err(|e| failed(&e))?;
        self.0.ready().await.map_err(|error| failed(&error))?;
        let response = self.0.send_request(request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST_BYTES).collect().await;
        let body = body.map_err(|error| failed(&error))?.to_bytes();
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => serde_json::from_slice(&body).map(Some).map_err(|error| failed(&error)),
            status => Err(failed(&status)),
        }
    }
}
