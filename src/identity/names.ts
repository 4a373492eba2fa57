/** Distinguished names, for people who look at a certificate. No decision ever reads one: the URI SAN is the identity. */
import { AttributeTypeAndValue, AttributeValue, Name, RelativeDistinguishedName } from '@peculiar/asn1-x509';
import { objectIdentifier, sequence, set, utf8String } from './der-write.ts';

const COMMON_NAME = '2.5.4.3';
const ORGANIZATION = '2.5.4.10';
/** RFC 5280, appendix A.1: ub-common-name and ub-organization-name. */
const NAME_CHARS_MAX = 64;

export function commonName(name: string): Name {
  return new Name([part(COMMON_NAME, name)]);
}

/** The same, as DER: each certificate that is issued has one. */
export function commonNameDer(name: string): Uint8Array {
  return sequence(set(sequence(COMMON_NAME_DER, utf8String(name.slice(0, NAME_CHARS_MAX)))));
}

const COMMON_NAME_DER = objectIdentifier(COMMON_NAME);

/** The name of a cluster's authority: the cluster as organization. */
export function authorityName(cluster: string, name: string): Name {
  return new Name([part(ORGANIZATION, cluster), part(COMMON_NAME, name)]);
}

function part(type: string, text: string): RelativeDistinguishedName {
  return new RelativeDistinguishedName([new AttributeTypeAndValue({ type, value: new AttributeValue({ utf8String: text.slice(0, NAME_CHARS_MAX) }) })]);
}
