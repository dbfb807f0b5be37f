//! The CONNECT request that opens a session, and the response to it.

use bytes::Bytes;
use smoq::{Agreed, HttpRequest, Versions};
use url::Url;
use web_transport_proto::{ConnectError, ConnectRequest, ConnectResponse};

use crate::codes;
use crate::error::{Error, Violation};
use crate::varint;

/// Why a request was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Only its stream is reset, with this code.
    Request(smoq::stream::Code),
    /// The connection is closed.
    Connection(Error),
}

/// A HEADERS frame, as `web_transport_proto` takes it: all of it, with its head.
fn frame(headers: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x01];
    varint::encode(headers.len() as u64, &mut frame);
    frame.extend_from_slice(headers);
    frame
}

/// The frame of a client's request.
pub(crate) fn request(authority: &str, path: &str, versions: &Versions) -> Result<Bytes, Error> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let url = format!("https://{authority}{slash}{path}");
    let url = Url::parse(&url).map_err(|_| Error::Url)?;
    let mut frame = Vec::new();
    let request = ConnectRequest::new(url).with_protocols(versions.alpns().map(String::from));
    request.encode(&mut frame).map_err(|_| Error::Url)?;
    Ok(frame.into())
}

/// Reads the headers of a client's request, and chooses a version by the order of `versions`.
pub(crate) fn read_request(
    headers: &[u8],
    versions: &Versions,
) -> Result<(HttpRequest, Accepted), Refusal> {
    let request =
        ConnectRequest::decode(&mut frame(headers).as_slice()).map_err(|error| refusal(&error))?;
    let is_offered = |alpn: &&str| request.protocols.iter().any(|protocol| protocol == alpn);
    let protocol = versions.alpns().find(is_offered);
    // Without a common protocol the oldest versions agree by SETUP.
    let agreed = versions.agreed(protocol.map(str::as_bytes));
    let agreed = agreed.ok_or(Refusal::Connection(Error::Version))?;
    let mut http = HttpRequest::new(path_and_query(&request.url), request.url.authority());
    for (name, value) in &request.headers {
        // It was decoded from UTF-8.
        http.push_header(name.as_str(), &String::from_utf8_lossy(value.as_bytes()));
    }
    Ok((http, Accepted { protocol, agreed }))
}

/// The version that a server chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    protocol: Option<&'static str>,
    pub(crate) agreed: Agreed,
}

impl Accepted {
    /// The frame of the response.
    pub(crate) fn response(&self) -> Bytes {
        let mut response = ConnectResponse::OK;
        if let Some(protocol) = self.protocol {
            response = response.with_protocol(protocol);
        }
        let mut frame = Vec::new();
        response.encode(&mut frame).expect("names of versions are structured fields");
        frame.into()
    }
}

fn path_and_query(url: &Url) -> String {
    let path = url.path();
    url.query().map_or_else(|| path.into(), |query| format!("{path}?{query}"))
}

fn refusal(error: &ConnectError) -> Refusal {
    match error {
        ConnectError::QpackError(_) => Refusal::Connection(
            Violation(codes::DECOMPRESSION_FAILED, "a field section can't be decoded").into(),
        ),
        ConnectError::FieldSectionTooLarge => Refusal::Request(codes::EXCESSIVE_LOAD),
        // A request, but not for WebTransport.
        ConnectError::WrongMethod(Some(_)) | ConnectError::WrongProtocol(_) => {
            Refusal::Request(codes::REQUEST_REJECTED)
        }
        _ => Refusal::Request(codes::MESSAGE),
    }
}

/// Reads the headers of a server's response. `None`: it is an interim one (RFC 9114, section 4.1).
pub(crate) fn read_response(headers: &[u8], versions: &Versions) -> Result<Option<Agreed>, Error> {
    let response = match ConnectResponse::decode(&mut frame(headers).as_slice()) {
        Ok(response) => response,
        Err(ConnectError::WrongStatus(Some(status))) if status.is_informational() => {
            return Ok(None);
        }
        Err(ConnectError::WrongStatus(status)) => {
            return Err(Error::Refused(status.map_or(0, |status| status.as_u16())));
        }
        Err(ConnectError::QpackError(_)) => {
            let reason = "a field section can't be decoded";
            return Err(Violation(codes::DECOMPRESSION_FAILED, reason).into());
        }
        Err(_) => return Err(Violation(codes::MESSAGE, "the response is malformed").into()),
    };
    let protocol = response.protocol.as_deref().map(str::as_bytes);
    versions.agreed(protocol).map(Some).ok_or(Error::Version)
}
