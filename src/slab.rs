//! Slots that are reused, with generations, so that a stale key finds nothing.

use alloc::vec::Vec;

/// The index of a slot, and the generation of its value.
pub(crate) type Key = (u32, u32);

/// Values in numbered slots. Iteration is in the order of the slots.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        self.insert_with(|_| value)
    }

    /// Inserts the value that `make` returns for its slot index.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(u32) -> T) -> Key {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            entry.0 = entry.0.wrapping_add(1);
            entry.1 = Some(make(slot));
            return (slot, entry.0);
        }
        let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 slots");
        self.slots.push((0, Some(make(slot))));
        (slot, 0)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let (generation, value) = self.slots.get(key.0 as usize)?;
        value.as_ref().filter(|_| *generation == key.1)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, value) = self.slots.get_mut(key.0 as usize)?;
        let generation = *generation;
        value.as_mut().filter(|_| generation == key.1)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let (generation, value) = self.slots.get_mut(key.0 as usize)?;
        if *generation != key.1 {
            return None;
        }
        let value = value.take()?;
        self.free.push(key.0);
        Some(value)
    }

    /// The value in `slot`, of any generation, and its key.
    #[cfg(feature = "std")]
    pub(crate) fn at(&mut self, slot: usize) -> Option<(Key, &mut T)> {
        let (generation, value) = self.slots.get_mut(slot)?;
        Some(((slot as u32, *generation), value.as_mut()?))
    }

    #[cfg(feature = "std")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|(_, value)| value.as_ref())
    }

    #[cfg(feature = "std")]
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.slots.into_iter().filter_map(|(_, value)| value)
    }
}
