//! The authorization tokens that the peer registered (moq-transport-22, 8.9).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::auth_token::AuthToken;
use crate::census::census;
use crate::coding::DecodeError;
use crate::coding::ietf::TokenReference;

/// REGISTER of an alias that is in use. It closes the session with DUPLICATE_AUTH_TOKEN_ALIAS.
pub(super) const DUPLICATE_ALIAS: &str = "a token alias twice";
/// REGISTER past the limit. It closes the session with AUTH_TOKEN_CACHE_OVERFLOW.
pub(super) const CACHE_OVERFLOW: &str = "too many tokens";

/// The tokens by their aliases.
#[derive(Debug)]
pub(super) struct TokenCache {
    aliases: BTreeMap<u64, AuthToken>,
    /// Their size, as the drafts count it.
    used: u64,
    /// The limit, which the peer is told (MAX_AUTH_TOKEN_CACHE_SIZE).
    pub(super) max: u64,
}

impl TokenCache {
    /// At most `max` bytes are kept.
    pub(super) fn new(max: u64) -> Self {
        Self { aliases: BTreeMap::new(), used: 0, max }
    }

    /// The tokens that a message carries; `None` if an alias is not registered. Aliases are registered and deleted,
    /// whatever becomes of the message. In SETUP a token past the limit is used without an alias (9.1.4).
    pub(super) fn resolve(
        &mut self,
        references: Vec<TokenReference>,
        in_setup: bool,
    ) -> Result<Option<Vec<AuthToken>>, DecodeError> {
        let (mut tokens, mut is_known) = (Vec::new(), true);
        for reference in references {
            match reference {
                TokenReference::Delete(alias) => {
                    let token = self.aliases.remove(&alias);
                    is_known &= token.is_some();
                    self.used -= token.as_ref().map_or(0, size);
                }
                TokenReference::Register(alias, token) => {
                    if self.aliases.contains_key(&alias) {
                        return Err(DecodeError::InvalidValue(DUPLICATE_ALIAS));
                    }
                    let used = self.used.saturating_add(size(&token));
                    if used <= self.max {
                        self.used = used;
                        self.aliases.insert(alias, token.clone());
                    } else if !in_setup {
                        return Err(DecodeError::InvalidValue(CACHE_OVERFLOW));
                    }
                    tokens.push(token);
                }
                TokenReference::Alias(alias) => {
                    is_known &= self.aliases.contains_key(&alias);
                    tokens.extend(self.aliases.get(&alias).cloned());
                }
                TokenReference::Value(token) => tokens.push(token),
            }
        }
        Ok(is_known.then_some(tokens))
    }
}

/// The share of a token in the limit (MAX_AUTH_TOKEN_CACHE_SIZE, 9.1.3).
fn size(token: &AuthToken) -> u64 {
    16 + token.value.len() as u64
}

/// Whether a message has the same token twice (8.9).
pub(super) fn has_duplicate(tokens: &[AuthToken]) -> bool {
    tokens.iter().enumerate().any(|(n, token)| tokens[..n].contains(token))
}

census! { TokenCache { counts: aliases; plain: used, max; } }
