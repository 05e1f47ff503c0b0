//! Facts about the cluster: where pods reach the API server, and the egress proxy.
//!
//! What tells it is in the namespace `default`, where others may write too. Must never: let these keep a workflow from being looked at.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Resource,
    api::{ApiResource, DynamicObject},
};
use serde::de::{DeserializeOwned, Error as _};
use tracing::warn;

use super::{
    CallError, Reads, calls,
    lean::{Lean, MAX_OBJECT, is_cut},
};
use crate::plan::EGRESS_PROXY;

/// Name of the API server's port, as it writes its own Service.
const PORT: &str = "https";

/// Where the API server writes of itself: namespace and name.
const KUBERNETES: (&str, &str) = ("default", "kubernetes");

/// Addresses with their ports.
pub(super) type Addresses = BTreeSet<(IpAddr, u16)>;

/// What was read last, by this process: of the EndpointSlice, and of the Service.
#[derive(Default)]
pub(super) struct Last(Mutex<[Addresses; 2]>);

/// Where pods reach the API server.
#[derive(Default)]
pub(super) struct ApiServer {
    /// The `kubernetes` Service's own addresses, for network plugins that look before the address is translated, and those of its
    /// endpoints, for those that look after. Of what cannot be read, those that were read last. Empty when nothing is known.
    pub(super) addresses: Addresses,
    /// Why that is not what there is now.
    pub(super) unread: Option<String>,
}

pub(super) async fn api_server(reads: &Reads) -> Result<ApiServer, CallError> {
    // The API server's own, by name: any other slice with the Service's label is somebody's word.
    let (slice, service) = tokio::join!(
        read::<EndpointSlice>("read EndpointSlice kubernetes", KUBERNETES, reads),
        read::<Service>("read Service kubernetes", KUBERNETES, reads),
    );
    let slice = slice.map(|slice| addresses(slice, None));
    reads
        .api_server
        .now([slice, service.map(|service| addresses(None, service))])
}

/// Addresses of the egress proxy's Service: none where there is none, or it has none.
pub(super) async fn egress_proxy(reads: &Reads) -> Result<Vec<IpAddr>, CallError> {
    let Some(namespace) = &reads.egress_proxy else {
        return Ok(Vec::new());
    };
    let what = format!("read Service {EGRESS_PROXY}");
    let service = read::<Service>(&what, (namespace, EGRESS_PROXY), reads).await?;
    let addresses = service
        .and_then(|service| service.spec?.cluster_ips)
        .unwrap_or_default();
    let addresses = addresses.iter().filter_map(|address| address.parse().ok());
    // One a family.
    Ok(addresses.take(2).collect())
}

async fn read<K>(what: &str, (namespace, name): (&str, &str), reads: &Reads) -> Result<Option<K>, CallError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let resource = ApiResource::erase::<K>(&());
    let api = Api::<Lean<DynamicObject, MAX_OBJECT>>::namespaced_with(reads.client.clone(), namespace, &resource);
    let Some(Lean(object)) = calls::optional(calls::bounded(what, api.get(name)).await)? else {
        return Ok(None);
    };
    let shape = |source| CallError::Shape {
        what: what.to_owned(),
        source,
    };
    if is_cut(&object) {
        return Err(shape(serde_json::Error::custom("it weighs too much")));
    }
    let object = calls::raw(what, object)?;
    serde_json::from_value(object).map(Some).map_err(shape)
}

impl Last {
    fn now(&self, read: [Result<Addresses, CallError>; 2]) -> Result<ApiServer, CallError> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = ApiServer::default();
        for (last, read) in last.iter_mut().zip(read) {
            match read {
                Ok(now) => *last = now,
                // It stays so until somebody mends it. Any other failure passes.
                Err(error) if error.is_unreadable() || error.is_refused() => found.unread = Some(error.explain()),
                Err(error) => return Err(error),
            }
            found.addresses.extend(last.iter().copied());
        }
        Ok(found)
    }
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

    #[test]
    fn what_cannot_be_read_is_what_it_was_and_any_other_failure_is_one() {
        let known = |port| Ok(Addresses::from([(IpAddr::from([192, 0, 2, 1]), port)]));
        let unreadable = || {
            let source = kube::Error::SerdeError(serde_json::from_str::<u8>("x").unwrap_err());
            let what = "read Service kubernetes".to_owned();
            Err(CallError::Api { what, source })
        };
        let ports = |found: ApiServer| found.addresses.into_iter().map(|(_, port)| port).collect::<Vec<_>>();
        let last = Last::default();
        let nothing = last.now([known(6443), unreadable()]).unwrap();
        assert!(nothing.unread.as_ref().unwrap().contains("Service kubernetes"));
        assert_eq!(ports(nothing), [6443], "of the other nothing was known");
        let all = last.now([known(6443), known(443)]).unwrap();
        assert_eq!((all.unread.clone(), ports(all)), (None, vec![443, 6443]));
        assert_eq!(ports(last.now([known(7443), unreadable()]).unwrap()), [443, 7443]);
        let timeout = CallError::Timeout { what: "x".to_owned() };
        assert!(last.now([known(6443), Err(timeout)]).is_err());
        assert_eq!(
            ports(last.now([Ok(Addresses::new()), Ok(Addresses::new())]).unwrap()),
            [0_u16; 0]
        );
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
