//! A real Chromium without a window, driven over its DevTools protocol through a pipe: pages, scripts in them, keys.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{BOUND, eventually};

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    _profile: TempDir,
}

impl Browser {
    /// Starts it with a profile of its own and an empty page.
    ///
    /// # Errors
    /// When there is no Chromium on the machine.
    pub fn start() -> std::io::Result<Self> {
        Command::new("chromium")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        let profile = tempfile::tempdir()?;
        // Chromium reads commands from descriptor 3 and answers on 4. Its sandbox refuses root, as whom CI runs.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 1>&2", "sh", "chromium"])
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let to = child.stdin.take().expect("a pipe");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let (told, from) = channel();
        std::thread::spawn(move || {
            loop {
                let mut message = Vec::new();
                // Messages end with a zero byte; the pipe ends with the browser.
                if lines.read_until(0, &mut message).unwrap_or(0) == 0 {
                    return;
                }
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else {
                    return;
                };
                if told.send(value).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            to,
            from,
            session: None,
            last_id: 0,
            _profile: profile,
        };
        let target = browser.tell("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.tell("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        Ok(browser)
    }

    /// Sends a command and waits for its result.
    fn tell(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let text = message.to_string() + "\0";
        self.to.write_all(text.as_bytes()).expect("the browser listens");
        loop {
            let answer = self.from.recv_timeout(BOUND).expect("an answer of the browser");
            if answer["id"] == self.last_id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// Goes to an address.
    pub fn go(&mut self, address: &str) {
        // From an empty page, because a change of the fragment alone loads nothing.
        self.tell("Page.navigate", json!({ "url": "about:blank" }));
        self.tell("Page.navigate", json!({ "url": address }));
    }

    /// Makes the page so wide and high, in CSS pixels.
    pub fn size(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true });
        self.tell("Emulation.setDeviceMetricsOverride", size);
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        self.tell("Runtime.evaluate", params)["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page.
    pub fn until(&mut self, expression: &str) {
        eventually(expression, || (self.value(expression) == true).then_some(()));
    }

    /// The text of the first element that fits, as a person sees it; empty if there is none.
    pub fn text(&mut self, selector: &str) -> String {
        let selector = json!(selector);
        let value = self.value(&format!("document.querySelector({selector})?.innerText ?? ''"));
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the first element that fits shows this text.
    pub fn shows(&mut self, selector: &str, text: &str) {
        eventually(&format!("{selector} shows {text}"), || {
            self.text(selector).contains(text).then_some(())
        });
    }

    /// Clicks on the button with this label in the first element that fits, once it is there.
    pub fn click(&mut self, within: &str, label: &str) {
        let (within, label) = (json!(within), json!(label));
        self.until(&format!(
            "(() => {{ const found = [...document.querySelectorAll({within} + ' button')]\
             .find((one) => one.textContent === {label} && !one.disabled && one.checkVisibility()); \
             found?.click(); return found !== undefined; }})()"
        ));
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            other => panic!("no key {other}"),
        };
        let mut press = json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code });
        if !text.is_empty() {
            press["text"] = json!(text);
        }
        self.tell("Input.dispatchKeyEvent", press.clone());
        press["type"] = json!("keyUp");
        self.tell("Input.dispatchKeyEvent", press);
    }
}

impl Browser {
    /// Types a text, key by key, where the keyboard is.
    pub fn types(&mut self, text: &str) {
        for letter in text.chars() {
            let letter = letter.to_string();
            let press = json!({ "type": "keyDown", "key": letter, "text": letter });
            self.tell("Input.dispatchKeyEvent", press);
            let release = json!({ "type": "keyUp", "key": letter });
            self.tell("Input.dispatchKeyEvent", release);
        }
    }

    /// Presses Tab until the expression is true of `at`, the element where the keyboard is.
    pub fn tab_to(&mut self, is: &str) {
        let focused = format!("((at) => {is})(document.activeElement)");
        let reached = (0..80).any(|_| {
            self.press("Tab");
            self.value(&focused) == true
        });
        assert!(reached, "Tab leads to {is}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
