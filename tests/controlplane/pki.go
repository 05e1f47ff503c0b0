package main

// Certificates, keys and kubeconfigs of one run. One CA signs everything: servers, components and users.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	adminKubeconfig = "admin.kubeconfig"
	caCertificate   = "ca.crt"
	caKey           = "ca.key"
	// Clocks of containers and their hosts differ by seconds; a run lasts hours at most.
	backdated = time.Hour
	lifetime  = 7 * 24 * time.Hour
)

type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func writePKI(directory, address string, controllerManagerGroups []string) error {
	ca, err := newAuthority(directory)
	if err != nil {
		return err
	}
	addresses := []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(serviceAddress)}
	if address != "" {
		own := net.ParseIP(address)
		if own == nil {
			return fmt.Errorf("%q is no IP address", address)
		}
		addresses = append(addresses, own)
	}
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	for file, template := range map[string]*x509.Certificate{
		"server": {
			Subject: pkix.Name{CommonName: "kube-apiserver"}, IPAddresses: addresses, DNSNames: names,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		},
		"etcd-client":             clientTemplate("kube-apiserver", nil),
		"admin":                   clientTemplate("ringfence-admin", []string{"system:masters"}),
		"kube-controller-manager": clientTemplate("system:kube-controller-manager", controllerManagerGroups),
	} {
		certificate, key, err := ca.issue(template)
		if err != nil {
			return err
		}
		if err := errors.Join(write(directory, file+".crt", certificate), write(directory, file+".key", key)); err != nil {
			return err
		}
	}
	return writeServiceAccountKeys(directory)
}

func newAuthority(directory string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "ringfence test control plane"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if err := complete(template); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(write(directory, caCertificate, encode("CERTIFICATE", der)), write(directory, caKey, keyPEM)); err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate: certificate, key: key}, err
}

func readAuthority(directory string) (*authority, error) {
	certificatePEM, err := os.ReadFile(filepath.Join(directory, caCertificate))
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(directory, caKey))
	if err != nil {
		return nil, err
	}
	certificateBlock, _ := pem.Decode(certificatePEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certificateBlock == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s: %s and %s must be PEM", directory, caCertificate, caKey)
	}
	certificate, err := x509.ParseCertificate(certificateBlock.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: the CA's key cannot sign", directory)
	}
	return &authority{certificate: certificate, key: signer}, nil
}

// clientTemplate is what Kubernetes reads a user from: CN is the user, each O a group.
func clientTemplate(user string, groups []string) *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

func (a *authority) issue(template *x509.Certificate) (certificate, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if err := complete(template); err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	return encode("CERTIFICATE", der), keyPEM, err
}

func complete(template *x509.Certificate) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-backdated)
	template.NotAfter = time.Now().Add(lifetime)
	return nil
}

func writeServiceAccountKeys(directory string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return errors.Join(
		write(directory, "service-accounts.key", private),
		write(directory, "service-accounts.pub", encode("PUBLIC KEY", public)),
	)
}

func userKubeconfig(directory, user string, groups []string) ([]byte, error) {
	ca, err := readAuthority(directory)
	if err != nil {
		return nil, err
	}
	server, err := os.ReadFile(filepath.Join(directory, "server"))
	if err != nil {
		return nil, err
	}
	certificate, key, err := ca.issue(clientTemplate(user, groups))
	if err != nil {
		return nil, err
	}
	return kubeconfig(directory, string(server), user, certificate, key)
}

// writeKubeconfig writes one with the certificate that writePKI made under the name.
func writeKubeconfig(directory, file, server, name string) error {
	certificate, err := os.ReadFile(filepath.Join(directory, name+".crt"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(filepath.Join(directory, name+".key"))
	if err != nil {
		return err
	}
	content, err := kubeconfig(directory, server, name, certificate, key)
	if err != nil {
		return err
	}
	return errors.Join(write(directory, file, content), write(directory, "server", []byte(server)))
}

// kubeconfig is JSON, which is YAML. It carries certificates and key in itself, so that the file alone can be handed on.
func kubeconfig(directory, server, user string, certificate, key []byte) ([]byte, error) {
	ca, err := os.ReadFile(filepath.Join(directory, caCertificate))
	if err != nil {
		return nil, err
	}
	type named map[string]any
	return json.MarshalIndent(map[string]any{
		"apiVersion": "v1",
		"kind":       "Config",
		"clusters": []named{{"name": "ringfence", "cluster": named{
			"server": server, "certificate-authority-data": ca,
		}}},
		"users": []named{{"name": user, "user": named{
			"client-certificate-data": certificate, "client-key-data": key,
		}}},
		"contexts":        []named{{"name": "ringfence", "context": named{"cluster": "ringfence", "user": user}}},
		"current-context": "ringfence",
	}, "", "  ")
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return encode("PRIVATE KEY", der), err
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func write(directory, file string, content []byte) error {
	return os.WriteFile(filepath.Join(directory, file), content, 0o600)
}
