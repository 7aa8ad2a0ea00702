//! Which files of a crate import which: read from `mod`, `use` and paths that begin with `crate`, `self`, `super`
//! or a child module. A name that a file only re-exports (`pub use`) is traced to the file that defines it.
use super::words::{is_name, words};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// Words before the name of an item.
const ITEMS: [&str; 10] =
    ["fn", "struct", "enum", "union", "trait", "const", "static", "type", "macro_rules", "mod"];

/// The number of re-exports after which the search for a name stops.
const HOPS: usize = 16;

/// Who imports from whom.
type Imports<N> = BTreeMap<N, BTreeSet<N>>;

/// The files of one crate.
#[derive(Debug)]
pub(crate) struct Crate {
    files: BTreeMap<Vec<String>, Source>,
}

/// One file with its imports. Paths are absolute in its crate.
#[derive(Debug, Default)]
struct Source {
    path: PathBuf,
    /// Names of its own items.
    items: BTreeSet<String>,
    /// Its child modules.
    children: BTreeMap<String, Vec<String>>,
    /// Names that it imports, and whether it re-exports them.
    names: BTreeMap<String, (Vec<String>, bool)>,
    /// Modules from which it imports every name.
    globs: Vec<Vec<String>>,
    /// Paths in its code.
    paths: Vec<Vec<String>>,
    /// Names in its code, without imports.
    words: BTreeSet<String>,
}

// === impl Crate ===

impl Crate {
    /// Reads the crate whose root (`lib.rs` or `main.rs`) is in `folder`.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut package = Self { files: BTreeMap::new() };
        package.read_below(folder, Path::new(""), &[]);
        package
    }

    fn read_below(&mut self, folder: &Path, place: &Path, module: &[String]) {
        for entry in fs::read_dir(folder.join(place)).unwrap() {
            let path = place.join(entry.unwrap().file_name());
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let is_root = module.is_empty() && ["lib", "main"].contains(&stem.as_str());
            let inner = if is_root { Vec::new() } else { [module, &[stem]].concat() };
            if folder.join(&path).is_dir() {
                self.read_below(folder, &path, &inner);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(folder.join(&path)).unwrap();
                self.files.insert(inner.clone(), Source { path, ..Source::parse(&words(&text), &inner) });
            }
        }
    }

    /// The files that `file` imports from.
    fn imports(&self, file: &Source) -> BTreeSet<&Path> {
        let taken =
            file.names.iter().filter(|(name, (_, passed_on))| !passed_on || file.words.contains(*name));
        let paths = taken.map(|(_, (path, _))| path).chain(&file.paths).chain(&file.globs);
        paths.filter_map(|path| self.home(path, HOPS)).filter(|other| *other != file.path).collect()
    }

    /// The file that defines the item of a path.
    fn home(&self, path: &[String], hops: usize) -> Option<&Path> {
        let length = (0..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]))?;
        let file = &self.files[&path[..length]];
        let Some(name) = path.get(length).filter(|name| !file.items.contains(*name) && hops > 0) else {
            return Some(&file.path);
        };
        let rest = &path[length + 1..];
        if let Some((origin, _)) = file.names.get(name) {
            return self.home(&[origin, rest].concat(), hops - 1);
        }
        let from_glob = file.globs.iter().find_map(|glob| {
            let other = self.files.get(glob)?;
            (other.items.contains(name) || other.names.contains_key(name))
                .then(|| self.home(&[glob, &path[length..]].concat(), hops - 1))?
        });
        from_glob.or(Some(&file.path))
    }

    /// Files that import one another: each file imports the next one, and the last imports the first.
    pub(crate) fn circles(&self) -> Vec<Vec<PathBuf>> {
        let imports = self.files.values().map(|file| (file.path.as_path(), self.imports(file))).collect();
        circles(&imports)
            .iter()
            .map(|circle| circle.iter().map(|file| file.to_path_buf()).collect())
            .collect()
    }

    /// The same for sibling modules, each with everything below it.
    pub(crate) fn knots(&self) -> Vec<Vec<PathBuf>> {
        let modules: BTreeMap<&Path, &Vec<String>> =
            self.files.iter().map(|(module, file)| (file.path.as_path(), module)).collect();
        // For each module: which of its children import which others.
        let mut families = BTreeMap::<&[String], Imports<&[String]>>::new();
        for (module, file) in &self.files {
            for other in self.imports(file).iter().map(|file| modules[file]) {
                let shared = module.iter().zip(other).take_while(|(one, two)| one == two).count();
                if let (Some(one), Some(two)) = (module.get(..=shared), other.get(..=shared)) {
                    let children = families.entry(&module[..shared]).or_default();
                    children.entry(one).or_default().insert(two);
                    children.entry(two).or_default();
                }
            }
        }
        let circles = families.values().flat_map(circles);
        circles.map(|circle| circle.iter().map(|module| module.join("/").into()).collect()).collect()
    }
}

/// The shortest circles, each once.
fn circles<N: Ord + Clone>(imports: &Imports<N>) -> Vec<Vec<N>> {
    let mut circles: Vec<Vec<N>> = Vec::new();
    let mut known = BTreeSet::new();
    for node in imports.keys() {
        if let Some(circle) = way_back(node, imports)
            && known.insert(circle.iter().cloned().collect::<BTreeSet<_>>())
        {
            circles.push(circle);
        }
    }
    circles.sort_by_key(Vec::len);
    circles
}

/// The shortest path of imports from a node to itself.
fn way_back<N: Ord + Clone>(node: &N, imports: &Imports<N>) -> Option<Vec<N>> {
    let mut seen = BTreeSet::new();
    let mut ways = VecDeque::from([vec![node.clone()]]);
    while let Some(way) = ways.pop_front() {
        for next in &imports[way.last()?] {
            if next == node {
                return Some(way);
            }
            if seen.insert(next.clone()) {
                ways.push_back([way.as_slice(), std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}

// === impl Source ===

impl Source {
    fn parse(words: &[&str], module: &[String]) -> Self {
        let mut source = Self::default();
        let mut module = module.to_vec();
        // Modules in this file, with the number of open braces outside.
        let (mut inner, mut depth) = (Vec::new(), 0_usize);
        let mut at = 0;
        while at < words.len() {
            let next = |ahead: usize| words.get(at + ahead).copied().unwrap_or("");
            match words[at] {
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if inner.last() == Some(&depth) {
                        inner.pop();
                        module.pop();
                    }
                }
                "mod" if next(2) == "{" => {
                    source.items.insert(next(1).to_owned());
                    module.push(next(1).to_owned());
                    inner.push(depth);
                    at += 1;
                }
                "mod" if next(2) == ";" => {
                    let child = [module.as_slice(), &[next(1).to_owned()]].concat();
                    source.children.insert(next(1).to_owned(), child);
                    at += 2;
                }
                "use" => {
                    let passed_on = at > 0 && matches!(words[at - 1], "pub" | ")");
                    at += 1;
                    source.read_use(words, &mut at, &[], &module, passed_on);
                    continue;
                }
                word if ITEMS.contains(&word) => {
                    let name = if next(1) == "!" { next(2) } else { next(1) };
                    source.items.insert(name.to_owned());
                }
                word if is_name(word) && (at == 0 || !matches!(words[at - 1], "::" | ".")) => {
                    let mut path = vec![word.to_owned()];
                    while next(2 * path.len() - 1) == "::" && is_name(next(2 * path.len())) {
                        path.push(next(2 * path.len()).to_owned());
                    }
                    if path.len() > 1 {
                        source.paths.extend(source.absolute(&path, &module));
                    } else {
                        source.words.insert(word.to_owned());
                    }
                }
                _ => {}
            }
            at += 1;
        }
        source
    }

    /// Reads the names that `use` imports, starting with the word at `at`.
    fn read_use(
        &mut self,
        words: &[&str],
        at: &mut usize,
        before: &[String],
        module: &[String],
        passed_on: bool,
    ) {
        let mut path = before.to_vec();
        let mut alias = None;
        while let Some(word) = words.get(*at) {
            *at += 1;
            match *word {
                "{" => {
                    while words.get(*at - 1).is_some_and(|word| *word != "}") && *at < words.len() {
                        self.read_use(words, at, &path, module, passed_on);
                    }
                    path.clear();
                }
                "as" => {
                    alias = words.get(*at).map(|word| (*word).to_owned());
                    *at += 1;
                }
                "*" => {
                    self.globs.extend(self.absolute(&path, module));
                    path.clear();
                }
                "self" if !path.is_empty() => {}
                "," | "}" | ";" => break,
                word if is_name(word) => path.push(word.to_owned()),
                _ => {}
            }
        }
        if let (Some(name), Some(origin)) =
            (alias.or_else(|| path.last().cloned()), self.absolute(&path, module))
        {
            self.names.insert(name, (origin, passed_on));
        }
    }

    /// A path from the root of the crate; `None` if it belongs to another crate.
    fn absolute(&self, path: &[String], module: &[String]) -> Option<Vec<String>> {
        let first = path.first()?;
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => module.split_last()?.1.to_vec(),
            // Only what stands before it is known: other crates are all others.
            _ => {
                let taken = self.names.get(first).map(|(origin, _)| origin);
                return Some([self.children.get(first).or(taken)?, &path[1..]].concat());
            }
        };
        let mut rest = &path[1..];
        while let Some(("super", further)) =
            rest.split_first().map(|(first, further)| (first.as_str(), further))
        {
            base.pop();
            rest = further;
        }
        base.extend_from_slice(rest);
        Some(base)
    }
}

#[test]
fn circles_are_found_through_what_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod a; mod b; mod c; pub use a::A; pub use b::make as made;");
    // Only its tests know `c`.
    write("a.rs", "use crate::made; pub struct A; #[cfg(test)] mod tests { use crate::c::C; }");
    write("b.rs", "mod inner; pub fn make() { inner::make(crate::A) }");
    write("b/inner.rs", "use std::fs; pub(super) fn make(a: crate::a::A) {}");
    write("c.rs", "use crate::{a::{self}, b}; pub struct C;");
    let paths = |circles: &[&[&str]]| -> Vec<Vec<PathBuf>> {
        circles.iter().map(|circle| circle.iter().map(PathBuf::from).collect()).collect()
    };
    let package = Crate::read(folder.path());
    assert_eq!(package.circles(), paths(&[&["a.rs", "b.rs"], &["b/inner.rs", "a.rs", "b.rs"]]));
    assert_eq!(package.knots(), paths(&[&["a", "b"]]));
    write("b.rs", "mod inner; pub fn make() { inner::make() }");
    write("b/inner.rs", "pub(super) fn make() {}");
    assert!(Crate::read(folder.path()).circles().is_empty());
    // No file is in a circle, two modules are.
    write("a.rs", "pub struct A;");
    write("b/inner.rs", "pub(super) fn make(_: crate::a::A) {} pub fn other() { crate::c::one() }");
    write("c.rs", "pub fn one() {}");
    write("c/two.rs", "use crate::b::make;");
    let package = Crate::read(folder.path());
    assert!(package.circles().is_empty());
    assert_eq!(package.knots(), paths(&[&["b", "c"]]));
}
