//! Slots that are reused, with generations, so that a stale key finds nothing: a table that owns its keys, and one beside it.

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

/// Values for the keys of a [`Slab`] elsewhere. They lie in a table by slot, so that a lookup costs an index.
#[derive(Debug)]
pub(crate) struct SideTable<T> {
    /// Each with the generation of its key.
    slots: Vec<Option<(u32, T)>>,
    len: usize,
}

impl<T> Default for SideTable<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), len: 0 }
    }
}

impl<T> SideTable<T> {
    /// Sets the value of a key. That of an earlier key with the same slot is gone.
    pub(crate) fn insert(&mut self, key: Key, value: T) {
        let slot = key.0 as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        self.len += usize::from(self.slots[slot].replace((key.1, value)).is_none());
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let (generation, value) = self.slots.get(key.0 as usize)?.as_ref()?;
        (*generation == key.1).then_some(value)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, value) = self.slots.get_mut(key.0 as usize)?.as_mut()?;
        (*generation == key.1).then_some(value)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.len -= 1;
        self.slots[key.0 as usize].take().map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().map(|(_, value)| value)
    }

    /// The value in `slot`, of any generation, and its key.
    #[cfg(feature = "std")]
    pub(crate) fn at(&mut self, slot: usize) -> Option<(Key, &mut T)> {
        let (generation, value) = self.slots.get_mut(slot)?.as_mut()?;
        Some(((slot as u32, *generation), value))
    }

    #[cfg(feature = "std")]
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.slots.into_iter().flatten().map(|(_, value)| value)
    }
}
