//! "For each fixture: two instances with the same hard-coded port at the same time, each reached by its
//! own name through the router and by localhost:PORT from its own exec, each answering with its own
//! content; host ports stay free."
use agentfs_fixtures::{SERVERS, server};
use agentfs_tests::{Home, artifact};

macro_rules! servers {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        $($(#[$attribute])*
        #[test]
        fn $name() {
            two_copies(stringify!($name));
        })*

        #[test]
        fn every_server_of_the_model_has_a_test() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(SERVERS.iter().map(|server| server.name).collect::<Vec<_>>(), tested);
        }
    };
}

servers! {
    python_threading
    python_asyncio
    node_http
    node_net
    node_cluster
    c_threaded
    #[cfg_attr(not(target_os = "linux"), ignore = "epoll is Linux's")]
    c_epoll
    c_fork
    c_reuseport
    rust_threads
    java_httpserver
    php_builtin
}

fn two_copies(name: &str) {
    let home = Home::new();
    let server = server(name);
    let command = artifact::server_command(&server);
    let url = format!("http://localhost:{}/", server.port);
    let copies = ["one", "two"];
    let _running = copies.map(|copy| home.wrap("shop", copy, &command).body(copy).spawn());
    for copy in copies {
        let listener = home.listener("shop", copy, server.port);
        assert!(server.addresses.contains(&listener.address.as_str()), "{listener:?}");
    }
    for copy in copies {
        home.expect_body(&format!("{copy}.shop.localhost"), copy);
        home.expect_body(&format!("{}.{copy}.shop.localhost", server.port), copy);
        let inside = home.exec(&format!("shop/{copy}"), &["curl", "--silent", "--show-error", &url]);
        assert_eq!(inside.text(), copy, "curl {url} inside shop/{copy}");
    }
    for copy in copies {
        agentfs_tests::wait::until(&format!("all {} listeners of {copy}", server.listeners), || {
            let listeners = home.instance("shop", copy)?.listeners;
            (listeners.iter().filter(|listener| listener.port == server.port).count() == server.listeners)
                .then_some(())
        });
    }
    home.assert_host_is_free();
}
