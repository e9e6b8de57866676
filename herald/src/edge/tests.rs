//! Through the router, with a real engine on a real store.
