//! Facts about the cluster: where pods reach the API server.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::Api;
use tracing::warn;

use super::{CallError, Reads, calls};

/// Name of the API server's port, as it writes its own Service.
const PORT: &str = "https";

/// The `kubernetes` Service's own addresses, for network plugins that look before the address is translated, and those of its
/// endpoints, for those that look after. Empty when nothing is known.
pub(super) async fn api_server(reads: &Reads) -> Result<BTreeSet<(IpAddr, u16)>, CallError> {
    let slices = Api::<EndpointSlice>::namespaced(reads.client.clone(), "default");
    let services = Api::<Service>::namespaced(reads.client.clone(), "default");
    // The API server's own, by name: any other slice with the Service's label is somebody's word.
    let (slice, service) = tokio::join!(
        calls::bounded("read EndpointSlice kubernetes", slices.get("kubernetes")),
        calls::bounded("read Service kubernetes", services.get("kubernetes")),
    );
    Ok(addresses(calls::optional(slice)?, calls::optional(service)?))
}

/// Whoever may edit Services in namespace `default` can add a port to the API server's, and have pods of theirs answer by a selector: of the
/// Service counts the port that the API server itself gives it, and nothing where somebody chose who answers.
///
/// The API server makes one slice, of the family of the address that it advertises, and a Service of one family, on a cluster of
/// both as well, in 1.36.
fn addresses(slice: Option<EndpointSlice>, service: Option<Service>) -> BTreeSet<(IpAddr, u16)> {
    let mut found = BTreeSet::new();
    if let Some(slice) = slice {
        let ports: Vec<_> = slice
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter_map(|port| port.port)
            .collect();
        let addresses = slice
            .endpoints
            .iter()
            .flatten()
            .flat_map(|endpoint| &endpoint.addresses);
        found.extend(pairs(addresses, &ports));
    }
    if let Some(spec) = service.and_then(|service| service.spec) {
        if spec.selector.is_some_and(|selector| !selector.is_empty()) {
            warn!(
                "Service default/kubernetes has a selector, which the API server never gives it: no workflow reaches its address until that is taken off, as by kubectl edit service kubernetes --namespace default"
            );
            return found;
        }
        let ports: Vec<_> = spec
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter(|port| port.name.as_deref() == Some(PORT))
            .map(|port| port.port)
            .collect();
        found.extend(pairs(&spec.cluster_ips.unwrap_or_default(), &ports));
    }
    found
}

fn pairs<'a>(addresses: impl IntoIterator<Item = &'a String>, ports: &[i32]) -> Vec<(IpAddr, u16)> {
    let ports: Vec<u16> = ports.iter().filter_map(|port| u16::try_from(*port).ok()).collect();
    let addresses = addresses
        .into_iter()
        .filter_map(|address| address.parse::<IpAddr>().ok());
    addresses
        .flat_map(|address| ports.iter().map(move |port| (address, *port)))
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, from_value, json};

    use super::*;

    #[rstest]
    #[case::of_one_family(json!(["192.0.2.1"]), json!(["10.96.0.1"]), &["10.96.0.1 443", "192.0.2.1 6443"])]
    #[case::of_ipv6(json!(["2001:db8::1"]), json!(["fd00:96::1"]), &["2001:db8::1 6443", "fd00:96::1 443"])]
    #[case::service_of_both(json!(["2001:db8::1"]), json!(["fd00:96::1", "10.96.0.1"]), &["10.96.0.1 443", "2001:db8::1 6443", "fd00:96::1 443"])]
    #[case::headless(json!(["host.example.com"]), json!(["None"]), &[])]
    fn each_address_goes_with_its_own_port(#[case] slice: Value, #[case] service: Value, #[case] expected: &[&str]) {
        let family = if slice.to_string().contains(':') {
            "IPv6"
        } else {
            "IPv4"
        };
        let slice = json!({"metadata": {"name": "kubernetes"}, "addressType": family, "endpoints": [{"addresses": slice}], "ports": [{"port": 6443}]});
        let service = json!({"spec": {"clusterIPs": service, "ports": [{"name": "https", "port": 443}]}});
        assert_eq!(shown(&slice, &service), expected);
        assert_eq!(addresses(None, None), BTreeSet::new());
    }

    fn shown(slice: &Value, service: &Value) -> Vec<String> {
        let found = addresses(from_value(slice.clone()).ok(), from_value(service.clone()).ok());
        found
            .iter()
            .map(|(address, port)| format!("{address} {port}"))
            .collect()
    }

    #[rstest]
    #[case::another_port(json!({"ports": [{"name": "https", "port": 443}, {"name": "x", "port": 8443}]}), &["10.96.0.1 443", "192.0.2.1 6443"])]
    #[case::no_name(json!({"ports": [{"port": 443}]}), &["192.0.2.1 6443"])]
    #[case::empty_selector(json!({"ports": [{"name": "https", "port": 443}], "selector": {}}), &["10.96.0.1 443", "192.0.2.1 6443"])]
    #[case::selector(json!({"ports": [{"name": "https", "port": 443}], "selector": {"app": "x"}}), &["192.0.2.1 6443"])]
    fn what_somebody_adds_to_the_service_opens_nothing(#[case] mut spec: Value, #[case] expected: &[&str]) {
        spec["clusterIPs"] = json!(["10.96.0.1"]);
        let slice = json!({"metadata": {"name": "kubernetes"}, "addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}], "ports": [{"port": 6443}]});
        assert_eq!(shown(&slice, &json!({"spec": spec})), expected);
    }
}
