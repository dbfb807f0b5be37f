//! The state that a part of the machine keeps for each request.

use alloc::vec::Vec;

use crate::slab::Key;

/// Values by request. They lie in a table by the slot of the request, so that a lookup costs an index.
#[derive(Debug)]
pub(crate) struct ByRequest<T> {
    /// Each with the generation of its request.
    slots: Vec<Option<(u32, T)>>,
    len: usize,
}

impl<T> Default for ByRequest<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), len: 0 }
    }
}

impl<T> ByRequest<T> {
    /// Sets the value of a request. That of an earlier request in the same slot is gone.
    pub(crate) fn insert(&mut self, request: Key, value: T) {
        let slot = request.0 as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        self.len += usize::from(self.slots[slot].replace((request.1, value)).is_none());
    }

    pub(crate) fn get(&self, request: Key) -> Option<&T> {
        let (generation, value) = self.slots.get(request.0 as usize)?.as_ref()?;
        (*generation == request.1).then_some(value)
    }

    pub(crate) fn get_mut(&mut self, request: Key) -> Option<&mut T> {
        let (generation, value) = self.slots.get_mut(request.0 as usize)?.as_mut()?;
        (*generation == request.1).then_some(value)
    }

    pub(crate) fn remove(&mut self, request: Key) -> Option<T> {
        self.get(request)?;
        self.len -= 1;
        self.slots[request.0 as usize].take().map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().map(|(_, value)| value)
    }
}

#[cfg(any(test, feature = "sim"))]
impl<T: crate::census::Counted> crate::census::Counted for ByRequest<T> {
    fn count(&self, name: &'static str, census: &mut crate::census::Census) {
        let Self { slots: _, len: _ } = self;
        self.iter().for_each(|value| value.count(name, census));
    }
}
