//! How deep the machine's idle CPUs may sleep.
//!
//! A virtual machine whose idle CPU halts gives it back to its host, and getting it again to handle a packet takes tens of
//! microseconds. While a request for no latency at all is held (PM QoS: Documentation/power/pm_qos_interface.rst),
//! the guest's idle loop looks for work instead, and yields to whatever there is to do.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};

const IDLE_DRIVER: &str = "/sys/devices/system/cpu/cpuidle/current_driver";
const LATENCY: &str = "/dev/cpu_dma_latency";

/// The request; it ends when this is dropped, or with the process.
pub struct Awake {
    _request: File,
}

/// Whether it would help here: a guest with Linux' haltpoll driver, which can do both. What it would cost and bring on a
/// machine of metal, whose CPUs have many depths of sleep, nobody measured.
pub fn can_help() -> bool {
    std::fs::read_to_string(IDLE_DRIVER).is_ok_and(|driver| driver.trim() == "haltpoll")
}

/// Asks that no idle CPU halts.
///
/// # Errors
/// There is no such device, or this process may not use it.
pub fn hold() -> io::Result<Awake> {
    let mut request = OpenOptions::new().write(true).open(LATENCY)?;
    // Microseconds, as the machine writes an i32; the request lasts as long as the file is open.
    request.write_all(&0_i32.to_ne_bytes())?;
    Ok(Awake { _request: request })
}
