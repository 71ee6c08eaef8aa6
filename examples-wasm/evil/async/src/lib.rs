//! Hostile functions with the async ABI, by WASI 0.3. One attack per export, so that one artifact serves many tests.

use std::hint::black_box;

use rwasm::streams::{StreamReader, spawn_local, yield_async};

rwasm::generate!({ world: "evil:async-guest/evil-async", path: ["../../async/wit/deps/clocks.wit", "wit"] });

use wasi::clocks::monotonic_clock::wait_for;

struct Evil;

impl Guest for Evil {
    async fn spin() {
        loop {
            black_box(());
        }
    }

    async fn spin_after_waiting(milliseconds: u64) {
        wait_for(milliseconds.saturating_mul(1_000_000)).await;
        loop {
            black_box(());
        }
    }

    async fn wait_forever() {
        wait_for(u64::MAX).await;
    }

    async fn wait_for_nothing() {
        let (_writer, mut reader) = wit_stream::new::<u8>();
        reader.next().await;
    }

    async fn yield_forever() {
        loop {
            yield_async().await;
        }
    }

    async fn spin_after_returning() -> u32 {
        spawn_local(async {
            loop {
                black_box(());
            }
        });
        1
    }

    async fn wait_after_returning() -> u32 {
        spawn_local(wait_for(u64::MAX));
        1
    }

    async fn hoard_subtasks(count: u32) {
        for _ in 0..count {
            spawn_local(wait_for(u64::MAX));
        }
        wait_for(u64::MAX).await;
    }

    async fn endless_stream() -> StreamReader<u8> {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move { while writer.write_all(vec![0xa5; 65_536]).await.is_empty() {} });
        reader
    }

    async fn trap_after_returning() -> u32 {
        spawn_local(async { panic!("after the result was returned") });
        1
    }
}

export!(Evil);
