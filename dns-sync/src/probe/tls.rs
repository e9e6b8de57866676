//! TLS of probes, and what its certificate says.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use herald_core::monitor::TlsCheck;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::pace::Outcome;

const DAY_S: u64 = 86_400;

/// Who opens TLS connections.
pub(super) struct Tls {
    verifying: TlsConnector,
    accepting: TlsConnector,
}

impl Tls {
    /// With these roots.
    pub(super) fn new(roots: RootCertStore) -> Result<Tls, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            || ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let verifying = builder()?.with_root_certificates(roots).with_no_client_auth();
        let accept_any = Arc::new(AcceptAny(provider.clone()));
        let accepting =
            builder()?.dangerous().with_custom_certificate_verifier(accept_any).with_no_client_auth();
        Ok(Tls { verifying: Arc::new(verifying).into(), accepting: Arc::new(accepting).into() })
    }

    /// Does the handshake; gives the connection and when the certificate ends, in seconds since the epoch.
    pub(super) async fn open(
        &self,
        stream: TcpStream,
        check: &TlsCheck,
        host: &str,
    ) -> Result<(TlsStream<TcpStream>, Option<u64>), Outcome> {
        let name = check.sni.as_deref().unwrap_or(host);
        let name = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| Outcome::Unable(format!("`{name}` is no name for TLS")))?;
        let connector = if check.accept_any { &self.accepting } else { &self.verifying };
        let stream = connector
            .connect(server, stream)
            .await
            .map_err(|error| Outcome::Bad(format!("TLS with {name}: {error}")))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let ends_s = certificate.and_then(ends_s);
        if check.days_left_min > 0 {
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
            let days_left = ends_s.unwrap_or(0).saturating_sub(now_s) / DAY_S;
            if days_left < check.days_left_min.into() {
                return Err(Outcome::Bad(format!(
                    "the certificate is valid for {days_left} days more, and {} are asked for",
                    check.days_left_min
                )));
            }
        }
        Ok((stream, ends_s))
    }
}

/// The roots of the system.
pub(super) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    roots
}

/// When a certificate ends, in seconds since the epoch.
fn ends_s(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    certificate.validity().not_after.timestamp().try_into().ok()
}

/// Takes any certificate; that the server has its key is verified all the same.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
