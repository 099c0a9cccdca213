//! Bodies that are small on the wire and huge unpacked, sent to the real process: its memory stays
//! within what a body may take.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::{Folder, Server};

const GIB: usize = 1024 * 1024 * 1024;
/// Unpacked bytes of a part; a body is many parts behind each other, which both forms allow.
const PART: usize = 64 * 1024 * 1024;
/// MiB that one body may take: 32 unpacked, as many while they grow, and what is packed.
const BODY_MIB: u64 = 72;
/// Bombs that are sent at the same time in the end.
const AT_ONCE: u64 = 16;

fn gzip() -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b' '; PART]).unwrap();
    encoder.finish().unwrap().repeat(GIB / PART)
}

fn zstd() -> Vec<u8> {
    zstd::encode_all(&vec![b' '; PART][..], 19)
        .unwrap()
        .repeat(GIB / PART)
}

/// Returns the highest resident size of a process so far, in MiB.
fn highest_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn bombs_of_a_gibibyte_take_no_more_than_a_body_may() {
    let folder = Folder::new();
    // One arena of the allocator: which thread takes a request must not decide how much freed
    // memory is counted again.
    let mut up = folder.command(&["up", "--listen", "127.0.0.1:0", "--log-format", "text"]);
    let server = Server::start({
        up.env("MALLOC_ARENA_MAX", "1");
        up
    });
    let license = folder.bootstrap()["license_key"].clone();
    let (_, login) = server.post("/api/v1/auth/license/", &json!({ "license_key": license }));
    let token = login["access_token"].as_str().unwrap().to_owned();
    let tenant = folder.bootstrap()["tenant_id"].as_str().unwrap().to_owned();
    let dump = || folder.lines(&["admin", "dump", "--tenant", &tenant]);
    let before = (dump(), highest_mib(server.pid()));
    let bombs = [("gzip", gzip()), ("zstd", zstd())];
    for (encoding, bomb) in &bombs {
        assert!(
            bomb.len() <= 1024 * 1024,
            "{encoding}: {} bytes",
            bomb.len()
        );
        let routes = [
            "/api/v1/sync/push",
            "/api/v1/sync/pull",
            "/api/v1/context/push",
        ];
        let refused = |path: &str| {
            let (status, problem): (u16, Value) =
                server.post_packed(&token, path, (encoding, bomb));
            assert_eq!(
                (status, &problem["code"]),
                (413, &json!("body_too_large")),
                "{problem}"
            );
        };
        for path in routes {
            refused(path);
        }
        let peak = highest_mib(server.pid());
        let (bytes, idle) = (bomb.len(), before.1);
        println!("{encoding}: 1 GiB in {bytes} bytes; peak {idle} MiB before, {peak} after");
        assert!(peak < idle + BODY_MIB, "{peak} MiB");
    }
    let (encoding, bomb) = &bombs[0];
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| server.post_packed(&token, "/api/v1/sync/push", (encoding, bomb)));
        }
    });
    let peak = highest_mib(server.pid());
    println!("{AT_ONCE} of them at once: peak {peak} MiB");
    // Four are unpacked at a time; the others hold what arrived.
    assert!(peak < before.1 + 4 * BODY_MIB + AT_ONCE * 2, "{peak} MiB");
    assert_eq!(server.get("/health/").0, 200);
    assert_eq!(dump(), before.0);
}
