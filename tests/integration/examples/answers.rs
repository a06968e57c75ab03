//! What the examples of answers make of what comes back.

use super::Ends::{Born, Delivered, Error, Rejected};
use super::{Case, Exchange, Run, answered};

const JSON: &str = "application/json";

fn reads(endpoint: &'static str, exchanges: Vec<Exchange>) -> Case {
    Case {
        endpoint,
        run: Run::Sends(exchanges),
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = meanings();
    all.extend(captures());
    all
}

fn meanings() -> Vec<Case> {
    vec![
        reads(
            "success-statuses",
            vec![
                answered(202, "text/plain", "", Delivered),
                answered(204, "text/plain", "", Error("invalid_response", "204")),
            ],
        ),
        reads(
            "success-field",
            vec![
                answered(200, JSON, r#"{"status":"success"}"#, Delivered),
                answered(
                    200,
                    JSON,
                    r#"{"status":"failed"}"#,
                    Error("invalid_response", "`success` does not hold"),
                ),
            ],
        ),
        reads(
            "success-conditions",
            vec![
                answered(200, JSON, r#"{"created":true}"#, Delivered),
                answered(
                    200,
                    JSON,
                    r#"{"created":false}"#,
                    Error("invalid_response", "`success` does not hold"),
                ),
                answered(
                    201,
                    JSON,
                    r#"{"created":true}"#,
                    Error("invalid_response", "`success` does not hold"),
                ),
            ],
        ),
        reads(
            "accept-or-reject",
            vec![
                answered(200, JSON, r#"{"outcome":"success"}"#, Delivered),
                answered(
                    200,
                    JSON,
                    r#"{"outcome":"failure","reason":"duplicate"}"#,
                    Rejected("duplicate"),
                ),
                answered(503, JSON, "{}", Error("http_5xx", "503")),
            ],
        ),
        reads(
            "error-details",
            vec![answered(
                400,
                JSON,
                r#"{"error":{"code":"INVALID_PHONE","message":"Phone number format invalid","field":"phone"}}"#,
                Error(
                    "http_4xx",
                    "INVALID_PHONE Phone number format invalid (field phone)",
                ),
            )],
        ),
    ]
}

fn captures() -> Vec<Case> {
    let captured = |endpoint, content_type, body, data| {
        reads(endpoint, vec![answered(200, content_type, body, Born(data))])
    };
    vec![
        captured(
            "json-answer",
            JSON,
            r#"{"status":"created","lead":{"id":"12345","score":87},"message":"Lead created successfully"}"#,
            r#"{"outcome":"created","lead_id":"12345","lead_score":87,"message":"Lead created successfully"}"#,
        ),
        captured(
            "nested-answer",
            JSON,
            r#"{"status":"success","data":{"validated":true,"score":85,"details":{"email_valid":true,"phone_valid":true,"address_confirmed":false}},"meta":{"request_id":"abc123","processing_time":0.234}}"#,
            r#"{"validation_status":"success","validation_score":85,"email_valid":true,"phone_valid":true,"request_id":"abc123"}"#,
        ),
        captured(
            "xml-answer",
            "text/xml",
            "<response>\n<status>success</status>\n<leadId>12345</leadId>\n</response>",
            r#"{"outcome":"success","lead_id":"12345"}"#,
        ),
        captured(
            "xml-paths",
            "application/xml",
            "<ValidateResponse><Status>Success</Status><Result><Valid>true</Valid><Score>85</Score>\
             <EmailStatus>valid</EmailStatus><PhoneStatus>valid</PhoneStatus></Result></ValidateResponse>",
            r#"{"status":"Success","valid":true,"score":85,"email_status":"valid"}"#,
        ),
        captured(
            "text-answer",
            "text/plain",
            "SUCCESS|85|VALID|ABC123",
            r#"{"status":"SUCCESS","score":85,"validation":"VALID","reference":"ABC123"}"#,
        ),
        captured(
            "regex-answer",
            "text/plain",
            "Lead accepted with ID: 12345 and price: $45.00",
            r#"{"lead_id":"12345","price":45.0}"#,
        ),
    ]
}
