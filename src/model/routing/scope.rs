//! The paths that a handle of an origin may see and use.

use std::sync::Arc;

use crate::Path;

/// A root that is put in front of every path given and removed from every path shown, and the
/// prefixes that are allowed below it.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    root: Path,
    /// Relative to the root. None is below another.
    allowed: Arc<[Path]>,
    /// The same prefixes with the root.
    prefixes: Arc<[Path]>,
}

impl Default for Scope {
    /// Allows every path.
    fn default() -> Self {
        Self::of(Path::root(), vec![Path::root()])
    }
}

impl Scope {
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn allowed(&self) -> impl Iterator<Item = &Path> {
        self.allowed.iter()
    }

    /// The allowed prefixes as whole paths. None is below another.
    pub(crate) fn prefixes(&self) -> &Arc<[Path]> {
        &self.prefixes
    }

    /// The whole path of `path`, which is relative to the root; `None` if it is not allowed.
    pub(crate) fn absolute(&self, path: &Path) -> Option<Path> {
        self.allows(path).then(|| self.root.join(path))
    }

    /// The whole path `absolute` relative to the root; `None` if it is not allowed.
    pub(crate) fn relative(&self, absolute: &Path) -> Option<Path> {
        absolute.strip_prefix(&self.root).filter(|path| self.allows(path))
    }

    /// Restricts the scope to paths below one of `prefixes`; `None` if nothing is left.
    pub(crate) fn narrowed(&self, prefixes: impl IntoIterator<Item: Into<Path>>) -> Option<Self> {
        let prefixes: Vec<Path> = prefixes.into_iter().map(Into::into).collect();
        let narrower = |a: &Path, b: &Path| {
            if a.has_prefix(b) {
                return Some(a.clone());
            }
            b.has_prefix(a).then(|| b.clone())
        };
        let pairs = self.allowed.iter().flat_map(|a| prefixes.iter().map(move |b| (a, b)));
        Self::new(self.root.clone(), pairs.filter_map(|(a, b)| narrower(a, b)).collect())
    }

    /// Moves the root down to `prefix`; `None` if nothing below it is allowed.
    pub(crate) fn rooted(&self, prefix: &Path) -> Option<Self> {
        let Self { allowed, root, .. } = self.narrowed([prefix])?;
        let allowed = allowed.iter().filter_map(|path| path.strip_prefix(prefix)).collect();
        Self::new(root.join(prefix), allowed)
    }

    /// Allows no path.
    pub(crate) fn nothing() -> Self {
        Self::of(Path::root(), Vec::new())
    }

    fn new(root: Path, mut allowed: Vec<Path>) -> Option<Self> {
        // Sorted by segments and not as text, so that all paths below a prefix follow it directly.
        allowed.sort_by(|a, b| a.segments().cmp(b.segments()));
        allowed.dedup_by(|later, earlier| later.has_prefix(earlier));
        (!allowed.is_empty()).then(|| Self::of(root, allowed))
    }

    fn of(root: Path, allowed: Vec<Path>) -> Self {
        let prefixes = allowed.iter().map(|path| root.join(path)).collect();
        Self { root, allowed: allowed.into(), prefixes }
    }

    fn allows(&self, path: &Path) -> bool {
        self.allowed.iter().any(|prefix| path.has_prefix(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(texts: &[&str]) -> Vec<Path> {
        texts.iter().copied().map(Path::from).collect()
    }

    fn allowed(scope: &Scope) -> Vec<&str> {
        scope.allowed().map(Path::as_str).collect()
    }

    #[test]
    fn narrowing_only_takes_away() {
        let all = Scope::default();
        let some = all.narrowed(["a/b", "a-b", "a", "c"]).unwrap();
        assert_eq!(allowed(&some), ["a", "a-b", "c"], "what another covers is left out");
        let less = some.narrowed(["a/x", "d", "c"]).unwrap();
        assert_eq!(allowed(&less), ["a/x", "c"]);
        assert_eq!(allowed(&less.narrowed([""]).unwrap()), ["a/x", "c"]);
        assert!(less.narrowed(["d"]).is_none());
        assert!(less.narrowed([""; 0]).is_none());
    }

    #[test]
    fn a_root_is_added_and_taken_off() {
        let scope = Scope::default().narrowed(["a/b", "c"]).unwrap();
        let inside = scope.rooted(&Path::new("a")).unwrap();
        assert_eq!((inside.root().as_str(), allowed(&inside)), ("a", vec!["b"]));
        assert_eq!(inside.prefixes()[..], paths(&["a/b"]));
        assert_eq!(inside.absolute(&Path::new("b/x")), Some(Path::new("a/b/x")));
        assert_eq!(inside.absolute(&Path::new("x")), None);
        assert_eq!(inside.relative(&Path::new("a/b/x")), Some(Path::new("b/x")));
        assert_eq!(inside.relative(&Path::new("c")), None);
        let deep = inside.rooted(&Path::new("b/x")).unwrap();
        assert_eq!((deep.root().as_str(), allowed(&deep)), ("a/b/x", vec![""]));
        assert!(inside.rooted(&Path::new("c")).is_none());
    }

    #[test]
    fn nothing_allows_nothing() {
        assert_eq!(Scope::nothing().absolute(&Path::root()), None);
        assert_eq!(Scope::nothing().relative(&Path::new("a")), None);
    }
}
