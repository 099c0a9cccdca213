//! `coditect mcp`: the memory as tools of an agent.

mod memory;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use coditect_mcp::{ContextServer, Token};
use rmcp::ServiceExt as _;
use serde_json::json;

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::printer::Printer;
use memory::Memory;

/// File with the token of the last server over HTTP, in the data folder.
const TOKEN_FILE: &str = "mcp-token";

const HELP: &str = "\
Agents start it themselves; `coditect init` tells them how. Without --http it speaks the Model
Context Protocol over standard input and output until the agent closes them. It serves the project
of the folder that it is started in.

Examples:
  claude mcp add coditect -- coditect mcp
  coditect mcp --http --port 7421         for agents that cannot start a program

With --http it listens on this machine only, and prints where and which file holds the token that
requests must carry (Authorization: Bearer …); each start makes a fresh one.

--json, with --http: {url, token_file}.";

/// Serves the memory to agents by the Model Context Protocol.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Mcp {
    /// Listen for HTTP on this machine instead
    #[arg(long)]
    http: bool,
    /// Port; 0 takes a free one
    #[arg(long, requires = "http", default_value_t = 0, value_name = "PORT")]
    port: u16,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Mcp) -> anyhow::Result<Exit> {
    let server = ContextServer::new(Arc::new(Memory::open(context)?));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // The memory is one: more threads would only wait for it.
        .max_blocking_threads(2)
        .build()
        .context("cannot start the runtime")?;
    if command.http {
        let token_file = context.paths.data_dir().join(TOKEN_FILE);
        runtime.block_on(http(&context.printer, server, command.port, &token_file))?;
    } else {
        runtime.block_on(stdio(server))?;
    }
    // Standard input cannot be interrupted; nothing else is left to do.
    runtime.shutdown_background();
    Ok(Exit::Ok)
}

async fn stdio(server: ContextServer) -> anyhow::Result<()> {
    let started = server.serve(rmcp::transport::stdio()).await;
    match started {
        Ok(running) => {
            running.waiting().await.context("the agent went away")?;
            Ok(())
        }
        // The agent closed before it said anything.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(error).context("the agent does not speak the protocol"),
    }
}

async fn http(
    printer: &Printer,
    server: ContextServer,
    port: u16,
    token_file: &Path,
) -> anyhow::Result<()> {
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.map_err(|error| {
        CommandError::new(
            Exit::Failure,
            format!("cannot listen on {address}: {error}"),
        )
        .hint("--port 0 takes a free one")
    })?;
    let token = Token::fresh().context("the system gives no random numbers")?;
    write_secret(token_file, token.secret())
        .with_context(|| format!("cannot write {}", token_file.display()))?;
    let url = format!("http://{}/mcp", listener.local_addr()?);
    let document = json!({ "url": url, "token_file": token_file });
    printer.either(&document, |printer| {
        printer.line(&url)?;
        printer.note(&format!("the token is in {}", token_file.display()));
        Ok(())
    })?;
    let stopped = async {
        // Without signals it runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let router = coditect_mcp::router(server, token);
    axum::serve(listener, router)
        .with_graceful_shutdown(stopped)
        .await
        .context("the server stopped")
}

/// Writes a file for its owner alone, in place of the former one.
fn write_secret(file: &Path, text: &str) -> std::io::Result<()> {
    let fresh = file.with_extension(format!("{}.new", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = options.open(&fresh)?;
    writeln!(out, "{text}")?;
    out.sync_all()?;
    std::fs::rename(&fresh, file)
}
