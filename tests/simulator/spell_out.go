package main

// Two places in which cyclonus (v0.5.6) reads a label selector otherwise than Kubernetes does, written so that both read the
// same. Neither rewriting changes what the API server would make of the policy.
//
//   - NotIn: to Kubernetes a label that is absent is in no list; to cyclonus it must be there.
//   - matchLabels with an empty value: to Kubernetes the label must be there; to cyclonus an absent one is an empty one.

import (
	"errors"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Each NotIn doubles the peers.
const mostForms = 256

func spellOut(policy *networkingv1.NetworkPolicy) error {
	own, err := selectorForms(&policy.Spec.PodSelector)
	if err != nil {
		return fmt.Errorf("spec.podSelector: %w", err)
	}
	// The selector of a policy is no list of alternatives.
	if len(own) != 1 {
		return errors.New("spec.podSelector: NotIn is not simulated there")
	}
	policy.Spec.PodSelector = *own[0]
	for index := range policy.Spec.Ingress {
		rule := &policy.Spec.Ingress[index]
		peers, err := peerForms(rule.From)
		if err != nil {
			return fmt.Errorf("spec.ingress[%d]: %w", index, err)
		}
		rule.From = peers
	}
	for index := range policy.Spec.Egress {
		rule := &policy.Spec.Egress[index]
		peers, err := peerForms(rule.To)
		if err != nil {
			return fmt.Errorf("spec.egress[%d]: %w", index, err)
		}
		rule.To = peers
	}
	return nil
}

// Alternatives that together select what the peers select. None for none: a rule without peers is open, and stays so.
func peerForms(peers []networkingv1.NetworkPolicyPeer) ([]networkingv1.NetworkPolicyPeer, error) {
	var all []networkingv1.NetworkPolicyPeer
	for _, peer := range peers {
		namespaces, err := selectorForms(peer.NamespaceSelector)
		if err != nil {
			return nil, err
		}
		pods, err := selectorForms(peer.PodSelector)
		if err != nil {
			return nil, err
		}
		for _, namespace := range namespaces {
			for _, pod := range pods {
				form := networkingv1.NetworkPolicyPeer{NamespaceSelector: namespace, PodSelector: pod, IPBlock: peer.IPBlock}
				all = append(all, form)
			}
		}
	}
	return all, nil
}

// Selectors that together select what one selects: itself where cyclonus reads it right.
func selectorForms(selector *metav1.LabelSelector) ([]*metav1.LabelSelector, error) {
	if selector == nil {
		return []*metav1.LabelSelector{nil}, nil
	}
	forms := []*metav1.LabelSelector{{}}
	add := func(key, value string) {
		for _, form := range forms {
			if form.MatchLabels == nil {
				form.MatchLabels = map[string]string{}
			}
			form.MatchLabels[key] = value
		}
	}
	require := func(requirement metav1.LabelSelectorRequirement) {
		for _, form := range forms {
			form.MatchExpressions = append(form.MatchExpressions, requirement)
		}
	}
	for key, value := range selector.MatchLabels {
		if value == "" {
			require(metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpIn, Values: []string{""}})
		} else {
			add(key, value)
		}
	}
	for _, requirement := range selector.MatchExpressions {
		if requirement.Operator != metav1.LabelSelectorOpNotIn {
			require(requirement)
			continue
		}
		absent := make([]*metav1.LabelSelector, 0, len(forms))
		for _, form := range forms {
			copied := form.DeepCopy()
			none := metav1.LabelSelectorRequirement{Key: requirement.Key, Operator: metav1.LabelSelectorOpDoesNotExist}
			copied.MatchExpressions = append(copied.MatchExpressions, none)
			absent = append(absent, copied)
		}
		require(requirement)
		forms = append(forms, absent...)
		if len(forms) > mostForms {
			return nil, errors.New("a selector with so many NotIn is not simulated")
		}
	}
	return forms, nil
}
