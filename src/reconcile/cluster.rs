//! Facts about the cluster: where pods reach the API server.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::Api;

use super::{CallError, Reads, calls};

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
    let mut found = BTreeSet::new();
    if let Some(slice) = calls::optional(slice)? {
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
    if let Some(spec) = calls::optional(service)?.and_then(|service| service.spec) {
        let ports: Vec<_> = spec
            .ports
            .unwrap_or_default()
            .into_iter()
            .map(|port| port.port)
            .collect();
        found.extend(pairs(&spec.cluster_ips.unwrap_or_default(), &ports));
    }
    Ok(found)
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
