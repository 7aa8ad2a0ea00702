//! How URLs of the router are written. Pure.

/// Port of HTTP, which URLs leave out.
const HTTP: u16 = 80;

/// Port of HTTP over TLS, which URLs leave out.
const HTTPS: u16 = 443;

/// The ports that go into URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlStyle {
    /// Port of the router; 0 stands for no router.
    pub http_port: u16,
    /// Port of the router for TLS, if TLS is on: then URLs use it.
    pub https_port: Option<u16>,
}

// === impl UrlStyle ===

impl UrlStyle {
    /// The URL of a host name, without a path. `None` without a router: nothing answers there.
    pub fn url(self, host: &str) -> Option<String> {
        match (self.https_port, self.http_port) {
            (_, 0) => None,
            (Some(HTTPS), _) => Some(format!("https://{host}")),
            (Some(port), _) => Some(format!("https://{host}:{port}")),
            (None, HTTP) => Some(format!("http://{host}")),
            (None, port) => Some(format!("http://{host}:{port}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_leave_the_usual_port_out() {
        let url = |http_port, https_port| UrlStyle { http_port, https_port }.url("a.localhost");
        assert_eq!(url(80, None).as_deref(), Some("http://a.localhost"));
        assert_eq!(url(4280, None).as_deref(), Some("http://a.localhost:4280"));
        assert_eq!(url(4280, Some(443)).as_deref(), Some("https://a.localhost"));
        assert_eq!(url(80, Some(4443)).as_deref(), Some("https://a.localhost:4443"));
    }

    #[test]
    fn without_a_router_nothing_has_a_url() {
        for https_port in [None, Some(443)] {
            assert_eq!(UrlStyle { http_port: 0, https_port }.url("a.localhost"), None);
        }
    }
}
