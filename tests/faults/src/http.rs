//! A small HTTP/1.1 server on 127.0.0.1 that may also cut a connection instead of answering, which is what the frameworks do not offer.

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{future::Future, io, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, task::JoinHandle};

/// An answer with its whole body.
pub type Answer = Response<Full<Bytes>>;

/// A request with its whole body.
pub type Call = Request<Bytes>;

/// Instead of an answer: the connection is closed, and whoever waits at its other end learns nothing.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
pub struct Cut;

/// A running server. Dropping it ends it, and every call that is being answered with it.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a server on a port that the system gives. A handler that is being waited for is dropped when its client goes away.
///
/// # Errors
/// What the system says when it gives no port.
pub async fn serve<H, F>(handler: H) -> io::Result<Server>
where
    H: Fn(Call) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Answer, Cut>> + Send + 'static,
{
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let handler = Arc::new(handler);
    let task = tokio::spawn(async move {
        // Ends with this task: a set that is dropped aborts what is in it.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let _ = stream.set_nodelay(true);
                    let handler = Arc::clone(&handler);
                    connections.spawn(async move {
                        let service = service_fn(|request: Request<Incoming>| {
                            let handler = Arc::clone(&handler);
                            async move {
                                let (head, body) = request.into_parts();
                                let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
                                handler(Request::from_parts(head, body)).await
                            }
                        });
                        let served = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                        // Cut on purpose, or by the client: there is no reader left.
                        let _ = served.await;
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    });
    Ok(Server { address, task })
}

/// An answer of this kind.
#[must_use]
pub fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    answer
}

/// JSON.
#[must_use]
pub fn json(value: &serde_json::Value) -> Answer {
    answer(StatusCode::OK, "application/json", value.to_string())
}
