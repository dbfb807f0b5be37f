//! Broadcast paths: text in segments, always normalized.

use alloc::string::String;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;

/// The path of a broadcast, or a prefix of paths: segments joined by single slashes.
///
/// Leading, trailing and repeated slashes are removed on construction and on decoding (moq-lite, *Path*),
/// so equal paths are equal text. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

impl Path {
    /// Normalizes `path`. The empty path is the root.
    pub fn new(path: &str) -> Self {
        let mut clean = String::new();
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let is_clean =
            |path: &str| !path.starts_with('/') && !path.ends_with('/') && !path.contains("//");
        if is_clean(path) {
            return Self(path.into());
        }
        if let Some(first) = segments.next() {
            clean.push_str(first);
        }
        for segment in segments {
            clean.push('/');
            clean.push_str(segment);
        }
        Self(clean.into())
    }

    /// The root, which is a prefix of every path.
    pub fn root() -> Self {
        Self("".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The segments in order. The root has none.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// Whether the first segments are those of `prefix`: `demo` covers `demo/x`, not `demo2`.
    pub fn has_prefix(&self, prefix: &Self) -> bool {
        self.suffix_text(prefix).is_some()
    }

    /// The part after `prefix`, or `None` if the path does not begin with the segments of `prefix`.
    pub fn strip_prefix(&self, prefix: &Self) -> Option<Self> {
        if prefix.is_root() {
            return Some(self.clone());
        }
        self.suffix_text(prefix).map(|suffix| Self(suffix.into()))
    }

    /// This path followed by the segments of `suffix`.
    #[must_use]
    pub fn join(&self, suffix: &Self) -> Self {
        if suffix.is_root() {
            return self.clone();
        }
        if self.is_root() {
            return suffix.clone();
        }
        let mut text = String::with_capacity(self.0.len() + 1 + suffix.0.len());
        text.push_str(&self.0);
        text.push('/');
        text.push_str(&suffix.0);
        Self(text.into())
    }

    /// The texts of this path and of all of its prefixes: the path itself first, the root last.
    #[cfg(feature = "std")]
    pub(crate) fn covering(&self) -> impl Iterator<Item = &str> {
        let above = |text: &str| match text.rfind('/') {
            Some(at) => Some(at),
            None => (!text.is_empty()).then_some(0),
        };
        let text = &*self.0;
        let ends = core::iter::successors(Some(text.len()), move |end| above(&text[..*end]));
        ends.map(move |end| &text[..end])
    }

    /// Like [`Path::strip_prefix`], without a copy.
    pub(crate) fn suffix_text(&self, prefix: &Self) -> Option<&str> {
        if prefix.is_root() {
            return Some(&self.0);
        }
        let rest = self.0.strip_prefix(&*prefix.0)?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }
}

impl Default for Path {
    fn default() -> Self {
        Self::root()
    }
}

impl From<&str> for Path {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

impl From<&Self> for Path {
    fn from(path: &Self) -> Self {
        path.clone()
    }
}

impl From<String> for Path {
    fn from(path: String) -> Self {
        Self::new(&path)
    }
}

impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Path {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_normalized() {
        assert_eq!(Path::new("//a///b/"), Path::new("a/b"));
        assert!(Path::new("///").is_root());
        assert_eq!(Path::new("/a/").as_str(), "a");
    }

    #[test]
    fn prefixes_are_whole_segments() {
        let demo = Path::new("demo");
        assert!(Path::new("demo/x").has_prefix(&demo));
        assert!(demo.has_prefix(&demo));
        assert!(!Path::new("demo2").has_prefix(&demo));
        assert_eq!(Path::new("demo/x/y").strip_prefix(&demo), Some(Path::new("x/y")));
        assert_eq!(demo.strip_prefix(&demo), Some(Path::root()));
        assert_eq!(demo.strip_prefix(&Path::root()), Some(demo.clone()));
    }

    #[test]
    #[cfg(feature = "std")]
    fn the_prefixes_of_a_path_are_listed_from_longest_to_root() {
        let covering = |path| Path::new(path).covering().map(String::from).collect::<Vec<_>>();
        assert_eq!(covering("a/bc/d"), ["a/bc/d", "a/bc", "a", ""]);
        assert_eq!(covering(""), [""]);
    }

    #[test]
    fn join_with_the_root_changes_nothing() {
        let a = Path::new("a");
        assert_eq!(a.join(&Path::root()), a);
        assert_eq!(Path::root().join(&a), a);
        assert_eq!(a.join(&Path::new("b/c")), Path::new("a/b/c"));
    }
}
