//! Address arithmetic. The embedded IPv4 address of a permanent address says only *where its home is*
//! (RFC 3056 §2); who somebody is, is proven by keys alone.

pub mod home;
pub mod plan;
pub mod six_to_four;
pub mod special;
