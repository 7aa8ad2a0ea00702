//! The page of barred ports, as the collector and commands read it. Only the collector writes it.
use crate::limits::BARRED_PAGE_BYTES;
use agentfs_wire::barred::{MAGIC, ROW_BYTES, Row};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The rows of a page.
///
/// # Errors
/// What the system says. A file that is not such a page has no rows.
pub fn read(page: &Path) -> io::Result<Vec<Row>> {
    let mut bytes = Vec::new();
    File::open(page)?.take(BARRED_PAGE_BYTES).read_to_end(&mut bytes)?;
    let rows = bytes.strip_prefix(&MAGIC).unwrap_or_default();
    Ok(rows.chunks_exact(ROW_BYTES).filter_map(Row::decode).collect())
}
