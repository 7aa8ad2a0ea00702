//! Limits of reading programs that somebody else made: value, unit, reason, what happens at the limit.

/// Slices of a universal file. A Java class file begins with the same four bytes, followed by its version,
/// which is 45 or more: it is not a program.
pub const SLICES: u32 = 32;

/// Bytes of the load commands of one slice. A program with more is refused as malformed.
pub const LOAD_COMMANDS_BYTES: u32 = 4 * 1024 * 1024;

/// Blobs of one code signature; ten kinds exist. A signature with more is refused as malformed.
pub const SIGNATURE_BLOBS: u32 = 64;

/// Bytes of entitlements that are read. A program with more is refused as malformed.
pub const ENTITLEMENTS_BYTES: u32 = 1024 * 1024;

/// Bytes of the largest tool that is copied. A larger one is refused.
pub const TOOL_BYTES: u64 = 512 * 1024 * 1024;
