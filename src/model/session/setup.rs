//! The settings of an endpoint's sessions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::origins::SessionOrigins;
use super::retained::Retained;
use crate::machine::trace::Sink;
use crate::model::base::Clock;
use crate::{AuthToken, Limits, Path, Versions};

/// The settings of sessions, the same for clients and servers.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionSetup {
    pub(crate) origins: SessionOrigins,
    pub(crate) versions: Versions,
    pub(crate) limits: Limits,
    pub(crate) path: Path,
    pub(crate) authority: Box<str>,
    pub(crate) web_transport: bool,
    pub(crate) tokens: Vec<AuthToken>,
    pub(crate) request_tokens: BTreeMap<Path, Vec<AuthToken>>,
    pub(crate) cost: Option<u64>,
    pub(crate) retained: Option<Retained>,
    pub(crate) trace: TraceSinks,
    pub(super) clock: Clock,
}

/// Creates a sink for each session that is to be recorded.
#[derive(Clone, Default)]
pub(crate) struct TraceSinks(pub(super) Option<Arc<MakeSink>>);

type MakeSink = dyn Fn() -> Option<Box<dyn Sink>> + Send + Sync;

impl TraceSinks {
    pub(crate) fn sink(&self) -> Option<Box<dyn Sink>> {
        self.0.as_ref().and_then(|sink| sink())
    }
}

impl fmt::Debug for TraceSinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceSinks").field(&self.0.is_some()).finish()
    }
}
