//! QUIC's side of the handshake that both transports share (`credentials`). A peer that shows no certificate is turned away in it.

use std::sync::Arc;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};

pub use crate::credentials::SERVER_NAME;
use crate::credentials::{self, ChainLimits, Credentials};

pub fn server(credentials: Credentials, limits: ChainLimits) -> Result<Arc<QuicServerConfig>, String> {
    let config = credentials::server(credentials, limits, true)?;
    QuicServerConfig::try_from(config).map(Arc::new).map_err(|error| error.to_string())
}

pub fn client(credentials: Credentials, limits: ChainLimits) -> Result<Arc<QuicClientConfig>, String> {
    let config = credentials::client(credentials, limits)?;
    QuicClientConfig::try_from(config).map(Arc::new).map_err(|error| error.to_string())
}
