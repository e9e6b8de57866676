//! koder, the command line client.
