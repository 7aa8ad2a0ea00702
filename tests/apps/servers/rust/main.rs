//! axum on port 3000: says what the file `own` has, and who asks.
use std::net::SocketAddr;

use axum::{Router, extract::ConnectInfo, routing::get};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let own = std::fs::read_to_string("own")?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async move {
        let answer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { format!("{} peer={peer}\n", own.trim()) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
        let app = Router::new().route("/", get(answer)).into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, app).await?;
        Ok(())
    })
}
