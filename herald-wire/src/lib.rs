//! Types of the HTTP API and of the PoP stream, versioned.
