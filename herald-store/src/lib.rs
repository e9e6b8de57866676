//! The log's durable home: compare-and-append, content-addressed chunks, checkpoints.
