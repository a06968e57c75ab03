//! What the examples of bodies are to put on the wire, byte for byte.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::{Case, LEAD, Stage, by, sends, sends_of};
use crate::harness::now;

pub(super) fn json() -> Vec<Case> {
    vec![
        sends(
            "my-custom-crm",
            "POST /api.mycrm.example.com/leads\ncontent-type: application/json\n\n\
             {\"email\":\"test@example.com\",\"phone\":\"5551234567\",\"first_name\":\"John\",\"last_name\":\"Doe\"}",
        ),
        sends_of(
            "field-mapping",
            r#"{"email":"test@example.com","phone":"(555) 123-4567","first_name":"John","last_name":"Doe","score":85}"#,
            "POST /api.example.com/leads\ncontent-type: application/json\n\n\
             {\"email\":\"test@example.com\",\"phone\":\"5551234567\",\"firstName\":\"John\",\"lastName\":\"Doe\",\
             \"customFields\":{\"source\":\"landing-page\",\"score\":85}}",
        ),
        sends_of(
            "nested-document",
            r#"{"email":"test@example.com","phone":"5551234567","first_name":"John \"Jack\"","last_name":"Doe","birth_date":"1980-02-03","email_valid":true,"ip_address":"192.0.2.7"}"#,
            NESTED,
        ),
        by("transformed", transformed),
        sends(
            "with-metadata",
            "POST /with-metadata.example.com/leads\n\n\
             {\"email\":\"test@example.com\",\"phone\":\"5551234567\",\"first_name\":\"John\",\"last_name\":\"Doe\",\
             \"metadata\":{\"source\":\"posthaste\",\"timestamp\":\"{time}\",\"flow_id\":\"flow-7\",\"event_id\":\"{id}\"}}\n",
        ),
        by("with-hash", c5_a_hash_of_the_body_and_a_secret),
    ]
}

const NESTED: &str = r#"POST /partner.example.com/leads
content-type: application/json

{
  "lead": {
    "personal": {
      "firstName": "John \"Jack\"",
      "lastName": "Doe",
      "dateOfBirth": "1980-02-03"
    },
    "contact": {
      "emails": [
        { "address": "test@example.com", "type": "primary", "verified": true }
      ],
      "phones": [
        { "number": "5551234567", "type": "unknown", "carrier": null }
      ]
    },
    "metadata": {
      "source": "landing-page",
      "timestamp": "2026-01-15T10:30:00Z",
      "ipAddress": "192.0.2.7",
      "userAgent": ""
    }
  },
  "options": { "validate": true, "enhance": false, "dedupe": true }
}
"#;

/// An age grows, so it is worked out here as well.
fn transformed(stage: &Stage, endpoint: &str) {
    let data =
        r#"{"phone":"+1 (555) 123-4567","birth_date":"2000-01-01","first_name":"John","last_name":"Doe"}"#;
    let year = || now().to_string()[..4].parse::<u32>().expect("a year");
    let before = year();
    stage.send(endpoint, endpoint, data, &[]);
    let body = stage.request(endpoint, 1).body;
    let expected = |year: u32| {
        let age = year - 2000;
        format!(
            r#"{{"phone":"15551234567","birth_date":"01/01/2000","age":{age},"type":"B2C","name":"JOHN DOE"}}"#
        )
    };
    assert!([before, year()].map(expected).contains(&body), "{body}");
}

/// C5: the hash is over the lead as compact JSON, and the secret behind it.
fn c5_a_hash_of_the_body_and_a_secret(stage: &Stage, endpoint: &str) {
    stage.send(endpoint, endpoint, LEAD, &[]);
    let hash = Sha256::digest(format!("{LEAD}hash_secret"));
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = format!("{},\"hash\":\"{hex}\"}}\n", LEAD.trim_end_matches('}'));
    assert_eq!(stage.request(endpoint, 1).body, expected);
}

pub(super) fn others() -> Vec<Case> {
    vec![
        sends(
            "form",
            "POST /legacy.example.com/leads\ncontent-type: application/x-www-form-urlencoded\n\n\
             email=test%40example.com&phone=5551234567&firstName=John",
        ),
        sends_of(
            "xml",
            r#"{"email":"test@example.com","phone":"5551234567","first_name":"Jo<hn","last_name":"D&e"}"#,
            "POST /legacy.example.com/leads.xml\ncontent-type: application/xml\n\n<lead>\n  <email>test@example.com</email>\n  \
             <phone>5551234567</phone>\n  <name>\n    <first>Jo&lt;hn</first>\n    <last>D&amp;e</last>\n  </name>\n</lead>\n",
        ),
        sends_of(
            "soap",
            r#"{"email":"test@example.com","phone":"5551234567","postal_code":"90210"}"#,
            SOAP,
        ),
        sends(
            "csv",
            "POST /legacy.example.com/import\ncontent-type: text/csv; charset=utf-8\n\ntest@example.com,5551234567,John,Doe\n",
        ),
        sends(
            "pipe-delimited",
            "POST /pipe-delimited.example.com/import\n\ntest@example.com|5551234567|John|Doe\n",
        ),
        sends(
            "fixed-width",
            "POST /fixed-width.example.com/import\n\n\
             test@example.com                                  5551234567     John                          \n",
        ),
        sends(
            "plain-text",
            "POST /notify.example.com/message\ncontent-type: text/plain; charset=utf-8\n\nNew lead: John Doe (test@example.com)\n",
        ),
        by("compressed", compressed),
    ]
}

const SOAP: &str = r#"POST /partner.example.com/soap
content-type: text/xml
soapaction: "http://partner.com/ValidateLead"

<?xml version="1.0"?>
<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">
  <soap:Header>
    <auth:Credentials xmlns:auth="http://partner.com/auth">
      <auth:Username>posthaste</auth:Username>
      <auth:Password>soap_password</auth:Password>
    </auth:Credentials>
  </soap:Header>
  <soap:Body>
    <lead:ValidateRequest xmlns:lead="http://partner.com/leads">
      <lead:Email>test@example.com</lead:Email>
      <lead:Phone>5551234567</lead:Phone>
      <lead:PostalCode>90210</lead:PostalCode>
    </lead:ValidateRequest>
  </soap:Body>
</soap:Envelope>
"#;

fn compressed(stage: &Stage, endpoint: &str) {
    stage.send(endpoint, endpoint, LEAD, &[]);
    let asked = stage.request(endpoint, 1);
    assert_eq!(asked.header("content-encoding"), "gzip");
    let mut unpacked = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&*asked.bytes);
    decoder.read_to_string(&mut unpacked).expect("gzip");
    assert_eq!(unpacked, LEAD);
}
