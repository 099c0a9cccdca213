//! Each guard of sync, taken out, makes a seed fail.

use coditect_simulation::world::{Settings, simulate};

#[test]
fn explore() {
    let cases: [(&str, fn(&mut Settings)); 4] = [
        ("token", |s| s.server.token = false),
        ("device token", |s| s.device.token = false),
        ("stream lock", |s| s.server.stream_lock = false),
        ("epoch", |s| s.server.epoch = false),
    ];
    for (name, take_out) in cases {
        println!("== {name}");
        for seed in 0..60 {
            let mut settings = Settings::new(seed);
            take_out(&mut settings);
            if let Some(failure) = simulate(settings).failure {
                let failure: String = failure.chars().take(170).collect();
                println!("{seed}: {}", failure.replace('\n', " "));
            }
        }
    }
}
