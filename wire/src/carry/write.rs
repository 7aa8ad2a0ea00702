//! Writes texts for shells: quoted words, variables before a command.
use super::words::is_name;

/// Takes bytes.
pub type Push<'p> = &'p mut dyn FnMut(&[u8]);

/// The variables: calls what it is given with name and value of each.
pub type Variables<'v> = &'v dyn Fn(&mut dyn FnMut(&[u8], &[u8]));

/// Writes one word as a shell reads it back.
pub(super) fn quoted(push: Push<'_>, write: impl FnOnce(Push<'_>)) {
    push(b"'");
    write(&mut |bytes| {
        for (index, part) in bytes.split(|byte| *byte == b'\'').enumerate() {
            if index > 0 {
                push(b"'\\''");
            }
            push(part);
        }
    });
    push(b"'");
}

/// Writes `NAME='VALUE' ` for each variable.
pub(super) fn assignments(push: Push<'_>, variables: Variables<'_>) {
    variables(&mut |name, value| {
        if is_name(name) {
            push(name);
            push(b"=");
            quoted(push, |push| push(value));
            push(b" ");
        }
    });
}

/// Writes `export NAME='VALUE' …; `.
pub fn export(push: Push<'_>, variables: Variables<'_>) {
    let mut before: &[u8] = b"export ";
    variables(&mut |name, value| {
        if is_name(name) {
            push(before);
            before = b" ";
            push(name);
            push(b"=");
            quoted(push, |push| push(value));
        }
    });
    if before == b" " {
        push(b"; ");
    }
}

/// Writes the text by which a shell runs the file that is its `$0`.
pub(super) fn source(push: Push<'_>, variables: Variables<'_>, file: &[u8]) {
    export(push, variables);
    // Without a slash, `.` would search along PATH.
    push(if file.contains(&b'/') { b". \"$0\"" } else { b". \"./$0\"" });
}
