//! A hostile actor: it traps, spins, grows without end, fails to begin, and ends badly.

use std::{cell::Cell, hint::black_box};

rwasm::generate!();

use exports::evil::actor::bombs::{self, Guest, GuestBomb, GuestDud, GuestFuse};

struct Bombs;

impl Guest for Bombs {
    type Bomb = Bomb;
    type Fuse = Fuse;
    type Dud = Dud;
}

export!(Bombs);

#[derive(Default)]
struct Bomb {
    calls: Cell<u32>,
}

impl GuestBomb for Bomb {
    fn new() -> Self {
        Self::default()
    }

    fn refuse() -> Result<bombs::Bomb, String> {
        Err("not today".to_owned())
    }

    fn explode() -> bombs::Bomb {
        panic!("it went off while it was made");
    }

    fn count(&self) -> u32 {
        self.calls.set(self.calls.get() + 1);
        self.calls.get()
    }

    fn trap(&self) {
        panic!("it went off");
    }

    fn spin(&self) {
        loop {
            black_box(());
        }
    }

    fn spin_until_asked(&self) -> u32 {
        while !rwasm::context::cancelled() {
            black_box(());
        }
        self.count()
    }

    fn grow(&self) {
        loop {
            std::mem::forget(black_box(vec![1u8; 1 << 20]));
        }
    }

    fn bytes(&self, count: u32) -> Vec<u8> {
        vec![7; count as usize]
    }

    fn part(&self) -> bombs::Fuse {
        bombs::Fuse::new(Fuse)
    }
}

struct Fuse;

impl GuestFuse for Fuse {
    fn light(&self) {}
}

struct Dud;

impl GuestDud for Dud {
    fn new() -> Self {
        Self
    }

    fn poke(&self) -> u32 {
        0
    }
}

/// Its destructor never returns: whoever ends it gives it a moment, and no more.
impl Drop for Bomb {
    fn drop(&mut self) {
        loop {
            black_box(());
        }
    }
}
