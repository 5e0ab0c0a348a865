//! The shim's URL: a signed webhook that wakes it at once. A webhook is only a hint; the schedule finds what no webhook announced.

use crate::{
    Woken,
    signature::{SIGNATURE, Secrets, TIMESTAMP},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use switchyard_runtime::Json;

/// A request to a function's URL, as far as it matters here (AWS Lambda Developer Guide, "Invoking Lambda function URLs": payload format 2.0,
/// header names in lower case).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    #[serde(default)]
    headers: HashMap<String, String>,
    #[serde(default)]
    body: String,
    #[serde(default)]
    is_base64_encoded: bool,
    request_context: Context,
}

#[derive(Debug, Deserialize)]
struct Context {
    http: Http,
}

#[derive(Debug, Deserialize)]
struct Http {
    method: String,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// The HTTP status.
    pub status_code: u16,
    headers: BTreeMap<&'static str, &'static str>,
    /// One line, or what was done as JSON.
    pub body: String,
}

impl Request {
    /// The request of an invocation; `None` for an invocation by the schedule or an operator. Whatever has a `requestContext` came through the URL and
    /// must be signed: it never counts as the schedule's.
    ///
    /// # Errors
    /// The answer to a request that cannot be read.
    pub fn of(event: &Json) -> Result<Option<Self>, Response> {
        if event.get("requestContext").is_none() {
            return Ok(None);
        }
        let unreadable = |_| text(400, "this is not a request as a function's URL hands it over");
        Self::deserialize(event).map(Some).map_err(unreadable)
    }

    /// Checks that the sender may wake the shim. `now` in seconds since 1970.
    ///
    /// # Errors
    /// The answer to a sender that may not.
    pub fn admit(&self, secrets: Option<&Secrets>, now: i64) -> Result<(), Response> {
        let Some(secrets) = secrets else {
            return Err(text(404, "no webhook is set up here: the parameter ShimWebhookSecret is empty"));
        };
        if self.request_context.http.method != "POST" {
            return Err(text(405, "a webhook is a POST"));
        }
        let Some(body) = self.raw_body() else {
            return Err(text(400, "the body is not the base64 that the request says it is"));
        };
        let header = |name| self.headers.get(name).map(String::as_str);
        secrets.verify(now, header(TIMESTAMP), header(SIGNATURE), &body).map_err(|why| {
            tracing::warn!(%why, "a webhook was refused");
            text(401, &why.to_string())
        })
    }

    /// The bytes that were signed. A URL hands bodies over in base64, as it sees fit.
    fn raw_body(&self) -> Option<Vec<u8>> {
        if self.is_base64_encoded { STANDARD.decode(&self.body).ok() } else { Some(self.body.clone().into_bytes()) }
    }
}

impl Response {
    /// The answer to a sender that has woken the shim.
    pub(crate) fn of(woken: &Woken) -> Self {
        match woken {
            Woken::Running => text(202, "a shim is at work; it polls again before it ends"),
            Woken::Published(report) => match serde_json::to_string(report) {
                Ok(body) => answer(200, "application/json", body),
                Err(_) => text(200, "published"),
            },
        }
    }

    /// The database could not be asked.
    pub(crate) fn unavailable() -> Self {
        text(503, "the database does not answer; what is pending waits for the schedule")
    }
}

fn text(status: u16, line: &str) -> Response {
    answer(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

fn answer(status_code: u16, content_type: &'static str, body: String) -> Response {
    Response { status_code, headers: BTreeMap::from([("content-type", content_type)]), body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Report;
    use serde_json::json;

    // As in the test of the signature.
    const SIGNED: &str = "v1=0d1504eaf789ee13ec9782fd47c1fd648b7182586916806087a8e14e9849cfa2";
    const NOW: i64 = 1_767_605_400;

    fn post(body: &str, base64: bool) -> Json {
        json!({
            "version": "2.0",
            "headers": { "x-switchyard-timestamp": "1767605400", "x-switchyard-signature": SIGNED },
            "requestContext": { "http": { "method": "POST", "path": "/" } },
            "body": body,
            "isBase64Encoded": base64,
        })
    }

    fn admit(event: &Json) -> Result<(), u16> {
        let secrets = Secrets::parse("an old secret of ours");
        Request::of(event).unwrap().unwrap().admit(secrets.as_ref(), NOW).map_err(|response| response.status_code)
    }

    #[test]
    fn the_body_is_signed_as_it_was_sent_and_not_as_the_url_hands_it_over() {
        assert_eq!(admit(&post("{}", false)), Ok(()));
        assert_eq!(admit(&post("e30=", true)), Ok(()));
        assert_eq!(admit(&post("e30=", false)), Err(401));
        assert_eq!(admit(&post("{}", true)), Err(400));
    }

    #[test]
    fn an_unsigned_request_is_refused_with_one_line() {
        let mut unsigned = post("{}", false);
        unsigned["headers"] = json!({});
        let refused =
            Request::of(&unsigned).unwrap().unwrap().admit(Secrets::parse("an old secret of ours").as_ref(), NOW);
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.status_code, refused.body.as_str()),
            (401, "the header x-switchyard-timestamp is missing\n")
        );
        let mut get = post("{}", false);
        get["requestContext"]["http"]["method"] = "GET".into();
        assert_eq!(admit(&get), Err(405));
    }

    #[test]
    fn without_a_secret_there_is_nothing_here() {
        let refused = Request::of(&post("{}", false)).unwrap().unwrap().admit(None, NOW).unwrap_err();
        assert_eq!(refused.status_code, 404);
    }

    #[test]
    fn what_the_schedule_sends_is_no_request() {
        assert!(Request::of(&json!({ "source": "aws.events", "detail-type": "Scheduled Event" })).unwrap().is_none());
        assert!(Request::of(&json!({})).unwrap().is_none());
    }

    #[test]
    fn what_came_through_the_url_and_cannot_be_read_is_refused_and_not_taken_for_the_schedule() {
        let mut odd = post("{}", false);
        odd["headers"] = json!({ "x-many": ["one", "two"] });
        let mut without_method = post("{}", false);
        without_method["requestContext"]["http"] = json!({});
        for event in [odd, without_method, json!({ "requestContext": null })] {
            assert_eq!(Request::of(&event).unwrap_err().status_code, 400, "{event}");
        }
    }

    #[test]
    fn the_answer_says_what_was_done() {
        let report = Report { published: 3, refused: 0, parked: 1 };
        let answer = serde_json::to_value(Response::of(&Woken::Published(report))).unwrap();
        assert_eq!(
            (&answer["statusCode"], &answer["headers"]["content-type"]),
            (&json!(200), &json!("application/json"))
        );
        assert_eq!(answer["body"], r#"{"published":3,"refused":0,"parked":1}"#);
        assert_eq!(Response::of(&Woken::Running).status_code, 202);
    }
}
