//! A program without the standard library that uses `smoq::coding` and `smoq::machine`. Linking it is the
//! test: with std anywhere in the tree there would be two panic handlers (E0152).
#![no_std]

extern crate alloc;

use alloc::boxed::Box;
use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;
use core::ptr;

use smoq::machine::{Config, Input, Machine};
use smoq::stream::{Dir, Side, StreamId};
use smoq::{Instant, Version};

struct NoMemory;

// SAFETY: it never returns memory.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// Creates a machine and drives it a little, so that the linker drops none of it.
// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
pub extern "C" fn smoq_drive(now: u64) -> bool {
    let now = Instant::from_micros(now);
    let mut machine = Box::new(Machine::new(Config::new(Side::Server, Version::Lite06), now));
    machine.handle(now, Input::Opened { id: StreamId::new(Side::Client, Dir::Bi, 0) });
    while machine.poll_event().is_some() {}
    while machine.poll_action().is_some() {}
    machine.handle_timeout(now);
    machine.has_work()
}
