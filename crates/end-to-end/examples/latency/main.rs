//! How long a decision takes from one machine to the others, and where the time goes.
//!
//!     cargo run -p coditect-end-to-end --example latency      # make latency: release builds
//!
//! First two people's three machines in one organisation while 97 others, of another
//! organisation, are connected; then all hundred in one. The machines are daemons of the real
//! library in this process, each with its own databases, watches, HTTP client and WebSocket,
//! against the real server; the last part starts three real programs. `LATENCY_DEVICES` and
//! `LATENCY_ROUNDS` change the size, `LATENCY_IDLE_SECONDS` how long idleness is watched.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a rig: it prints, or it fails"
)]

#[cfg(target_os = "linux")]
mod crowd;
#[cfg(target_os = "linux")]
mod eyes;
#[cfg(target_os = "linux")]
mod figures;
#[cfg(target_os = "linux")]
mod programs;
#[cfg(target_os = "linux")]
mod trace;

#[cfg(target_os = "linux")]
fn main() {
    use coditect_end_to_end::{Device, Server};

    let (devices, rounds) = (
        number("LATENCY_DEVICES", 100),
        number("LATENCY_ROUNDS", 200),
    );
    let records = trace::Records::install();
    let server = Server::start();
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    println!(
        "server and machines: {build} build, {devices} connected machines, {rounds} decisions"
    );
    let tenant = server.bootstrap("tenant_id");
    let ann = server.bootstrap("license_key");
    let (_, cat) = server.user(&tenant, "cat@latency.example", "member");
    let other = server.admin(&["tenant", "create", "--name", "others"]);
    let other = other["tenant_id"].as_str().unwrap().to_owned();
    let crowd: Vec<String> = (0..2)
        .map(|n| {
            server
                .user(&other, &format!("{n}@others.example"), "member")
                .1
        })
        .collect();
    let link = |license: &String| Device::linked(&server, license);

    let three: Vec<Device> = [&ann, &ann, &cat].into_iter().map(link).collect();
    let others: Vec<Device> = (3..devices).map(|n| link(&crowd[n % 2])).collect();
    let running = crowd::start(&three, &others);
    let eyes = eyes::Eyes::open(&three);
    let made = eyes::decide(&three, &eyes, rounds, &records);
    figures::print("three machines of two people, the others connected", &made);
    figures::print_shares(&made, &records);
    drop((eyes, others));
    running.stop();

    let same: Vec<Device> = (3..devices)
        .map(|n| link(if n % 2 == 0 { &ann } else { &cat }))
        .collect();
    let all: Vec<Device> = three.into_iter().chain(same).collect();
    let running = crowd::start(&[], &all);
    let eyes = eyes::Eyes::open(&all);
    let made = eyes::decide(&all, &eyes, rounds / 4, &records);
    figures::print("all machines in one organisation", &made);
    drop(eyes);
    running.stop();

    let three: Vec<Device> = all.into_iter().take(3).collect();
    programs::measure(&three, rounds / 4, &records);
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("needs Linux: the rig watches databases by inotify");
}

/// Returns a size that the environment may change.
#[cfg(target_os = "linux")]
#[expect(clippy::disallowed_methods, reason = "the rig's own configuration")]
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
