"""What another page in the same browser could send to `vlaw ui`."""

from __future__ import annotations

import json
import urllib.parse

from ui_server import JSON


def mutation(key: str) -> str:
    return f'mutation {{ setConcurrencyLimit(concurrencyKey: "{key}", limit: 7) }}'


def in_address(path: str, key: str, query: str = "") -> str:
    return f"{path}?query={urllib.parse.quote(query or mutation(key))}"


def as_json(key: str) -> str:
    return json.dumps({"query": mutation(key)})


ATTACKS = {
    "get": lambda key: ("GET", in_address("/graphql", key), {}, ""),
    "get-html": lambda key: ("GET", in_address("/graphql", key), {"Accept": "text/html"}, ""),
    "get-encoded-path": lambda key: ("GET", in_address("/%67raphq%6C", key), {}, ""),
    "get-two-operations": lambda key: (
        "GET",
        in_address("/graphql", key, f"query A {{ version }} mutation B {mutation(key)[8:]}") + "&operationName=B",
        {},
        "",
    ),
    "get-same-origin": lambda key: (
        "GET",
        in_address("/graphql", key),
        {"Origin": "http://localhost:PORT", "Sec-Fetch-Site": "same-origin"},
        "",
    ),
    "get-with-body": lambda key: ("GET", "/graphql", JSON, as_json(key)),
    "head": lambda key: ("HEAD", in_address("/graphql", key), {}, ""),
    "absolute-address": lambda key: ("GET", f"http://evil.example{in_address('/graphql', key)}", {}, ""),
    "absolute-address-post": lambda key: ("POST", "http://evil.example/graphql", JSON, as_json(key)),
    "put": lambda key: ("PUT", "/graphql", JSON, as_json(key)),
    "options": lambda key: (
        "OPTIONS",
        "/graphql",
        {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
        "",
    ),
    "post-text": lambda key: ("POST", "/graphql", {"Content-Type": "text/plain"}, as_json(key)),
    "post-text-that-mentions-json": lambda key: (
        "POST",
        "/graphql",
        {"Content-Type": "text/plain; x=application/json"},
        as_json(key),
    ),
    "post-form": lambda key: (
        "POST",
        in_address("/graphql", key),
        {"Content-Type": "application/x-www-form-urlencoded"},
        "a=b",
    ),
    "post-multipart": lambda key: (
        "POST",
        in_address("/graphql", key),
        {"Content-Type": "multipart/form-data; boundary=x"},
        "--x--",
    ),
    "post-graphql": lambda key: ("POST", "/graphql", {"Content-Type": "application/graphql"}, mutation(key)),
    "post-nothing": lambda key: ("POST", in_address("/graphql", key), {}, ""),
    "post-two-types": lambda key: (
        "POST",
        "/graphql",
        {"Content-Type": ["application/json", "text/plain"]},
        as_json(key),
    ),
    "foreign-origin": lambda key: ("POST", "/graphql", {**JSON, "Origin": "http://evil.example"}, as_json(key)),
    "null-origin": lambda key: ("POST", "/graphql", {**JSON, "Origin": "null"}, as_json(key)),
    "other-port": lambda key: ("POST", "/graphql", {**JSON, "Origin": "http://localhost:1"}, as_json(key)),
    "other-scheme": lambda key: ("POST", "/graphql", {**JSON, "Origin": "https://localhost:PORT"}, as_json(key)),
    "prefix-origin": lambda key: (
        "POST",
        "/graphql",
        {**JSON, "Origin": "http://localhost:PORT.evil.example"},
        as_json(key),
    ),
    "user-origin": lambda key: (
        "POST",
        "/graphql",
        {**JSON, "Origin": "http://localhost:PORT@evil.example"},
        as_json(key),
    ),
    "user-origin-back": lambda key: (
        "POST",
        "/graphql",
        {**JSON, "Origin": "http://evil.example@localhost:PORT"},
        as_json(key),
    ),
    "two-origins": lambda key: (
        "POST",
        "/graphql",
        {**JSON, "Origin": ["http://localhost:PORT", "http://evil.example"]},
        as_json(key),
    ),
    "foreign-referer": lambda key: (
        "POST",
        "/graphql",
        {**JSON, "Referer": "http://evil.example/localhost:PORT"},
        as_json(key),
    ),
    "cross-site": lambda key: ("POST", "/graphql", {**JSON, "Sec-Fetch-Site": "cross-site"}, as_json(key)),
    "same-site": lambda key: ("POST", "/graphql", {**JSON, "Sec-Fetch-Site": "Same-Site"}, as_json(key)),
    "rebound-name": lambda key: (
        "POST",
        "/graphql",
        {**JSON, "Host": "evil.example:PORT", "Origin": "http://evil.example:PORT"},
        as_json(key),
    ),
    "no-port": lambda key: ("POST", "/graphql", {**JSON, "Host": "localhost"}, as_json(key)),
    "no-host": lambda key: ("POST", "/graphql", {**JSON, "Host": []}, as_json(key)),
    "two-hosts": lambda key: ("POST", "/graphql", {**JSON, "Host": ["localhost:PORT", "evil.example"]}, as_json(key)),
    "host-with-more": lambda key: ("POST", "/graphql", {**JSON, "Host": "evil.example#@localhost:PORT"}, as_json(key)),
    "forwarded-host": lambda key: (
        "POST",
        "/graphql",
        {**JSON, "Host": "evil.example", "X-Forwarded-Host": "localhost:PORT", "X-Forwarded-For": "127.0.0.1"},
        as_json(key),
    ),
    "report-form": lambda key: ("POST", f"/report_asset_materialization/{key}", {}, ""),
    "report-text": lambda key: ("POST", f"/report_asset_observation/{key}", {"Content-Type": "text/plain"}, "{}"),
    "report-foreign": lambda key: (
        "POST",
        f"/report_asset_check/{key}?check_name=x&passed=true",
        {**JSON, "Origin": "http://evil.example"},
        "{}",
    ),
}
