/** What a certificate may be used for, what else stands in it, and whose it is. */
import { KeyUsageFlags } from '@peculiar/asn1-x509';
import { extensionOids, keyPurposeOids } from '../../../../src/identity/profile.ts';
import type { RecordedFingerprint } from '../../../../src/identity/verify.ts';
import * as f from '../forge.ts';
import {
  type ChainCase,
  bad,
  forgeIntermediate,
  forgeLeaf,
  good,
  intermediate,
  leaf,
  leafWith,
  of,
  one,
  root,
  sha256,
  strangeIntermediate,
  under,
  type Verdict,
} from './cast.ts';

export function usages(): ChainCase[] {
  const bits = Object.entries(KeyUsageFlags).filter((entry): entry is [string, number] => typeof entry[1] === 'number');
  const { digitalSignature, keyCertSign } = KeyUsageFlags;
  const authority = (flags: number) => under({ extensions: [f.basicConstraints(true, 0), f.keyUsage(flags)] });
  const hex = (text: string) => f.rawExtension(extensionOids.keyUsage, true, new Uint8Array(Buffer.from(text, 'hex')));
  const cases = bits.flatMap(([name, flag]) => [
    one(`leaf for ${name} only`, leafWith({ usage: f.keyUsage(flag) }), flag === digitalSignature ? 'accepted' : 'certificate_invalid'),
    ...(flag === digitalSignature ? [] : [bad(`leaf for digitalSignature and ${name}`, leafWith({ usage: f.keyUsage(digitalSignature | flag) }))]),
    one(`intermediate for ${name} only`, authority(flag), flag === keyCertSign ? 'accepted' : 'certificate_invalid'),
    ...(flag === keyCertSign ? [] : [good(`intermediate for keyCertSign and ${name}`, authority(keyCertSign | flag))]),
  ]);
  const { clientAuth, serverAuth } = keyPurposeOids;
  const any = '2.5.29.37.0';
  const others = ['1.3.6.1.5.5.7.3.3', '1.3.6.1.5.5.7.3.4', '1.3.6.1.5.5.7.3.8', '1.3.6.1.5.5.7.3.9', '1.3.6.1.4.1.99999.3'];
  const purposes = (...oids: string[]) => leafWith({ purposes: f.purposes(...oids) });
  const authorityFor = (...oids: string[]) => under({ extensions: [f.basicConstraints(true, 0), f.authorityUsage, f.purposes(...oids)] });
  return [
    ...cases,
    bad('leaf without key usage', leafWith({ usage: null })),
    bad('leaf with a key usage that is not critical', leafWith({ usage: f.keyUsage(digitalSignature, false) })),
    bad('leaf with a key usage of no bit', leafWith({ usage: hex('030100') })),
    bad('leaf with a key usage that is empty', leafWith({ usage: hex('') })),
    bad('leaf with a key usage that is a number', leafWith({ usage: hex('020180') })),
    bad('leaf with octets behind its key usage', leafWith({ usage: hex('030207800500') })),
    bad('intermediate without key usage', under({ extensions: [f.basicConstraints(true, 0)] })),
    bad('leaf without purposes', leafWith({ purposes: null })),
    bad('leaf with an empty list of purposes', leafWith({ purposes: f.rawExtension(extensionOids.extendedKeyUsage, false, Uint8Array.of(0x30, 0)) })),
    bad('leaf for clients only', purposes(clientAuth)),
    bad('leaf for servers only', purposes(serverAuth)),
    bad('leaf for any purpose', purposes(any)),
    bad('leaf for any purpose too', purposes(clientAuth, serverAuth, any)),
    bad('leaf for clients twice', purposes(clientAuth, clientAuth)),
    good('leaf for servers and clients', purposes(serverAuth, clientAuth)),
    ...others.flatMap((oid) => [bad(`leaf for ${oid} only`, purposes(oid)), bad(`leaf for ${oid} too`, purposes(clientAuth, serverAuth, oid))]),
    good('intermediate for clients and servers', authorityFor(clientAuth, serverAuth)),
    good('intermediate for clients only', authorityFor(clientAuth), { asServer: 'certificate_invalid' }),
    bad('intermediate for servers only', authorityFor(serverAuth), { asServer: 'accepted' }),
    bad('intermediate for any purpose', authorityFor(any)),
    bad('intermediate for signing code', authorityFor('1.3.6.1.5.5.7.3.3')),
  ];
}

/** Extensions that others put into certificates, and that ours never have. */
export function strangeExtensions(): ChainCase[] {
  const oids = {
    'issuer alternative name': '2.5.29.18',
    'subject directory attributes': '2.5.29.9',
    'private key usage period': '2.5.29.16',
    'name constraints': '2.5.29.30',
    'CRL distribution points': '2.5.29.31',
    'certificate policies': '2.5.29.32',
    'policy mappings': '2.5.29.33',
    'policy constraints': '2.5.29.36',
    'freshest CRL': '2.5.29.46',
    'inhibit any policy': '2.5.29.54',
    'authority information access': '1.3.6.1.5.5.7.1.1',
    'TLS feature': '1.3.6.1.5.5.7.1.24',
    'CT poison': '1.3.6.1.4.1.11129.2.4.3',
    'certificate timestamps': '1.3.6.1.4.1.11129.2.4.2',
    'a private one': '1.3.6.1.4.1.99999.1',
  };
  const values = { NULL: Uint8Array.of(5, 0), nothing: new Uint8Array(0) };
  return Object.entries(oids).flatMap(([name, oid]) =>
    [true, false].flatMap((critical) =>
      Object.entries(values).flatMap(([what, value]) => {
        const extension = f.rawExtension(oid, critical, value);
        const label = `${name} (${critical ? 'critical' : 'not critical'}, ${what})`;
        return [
          bad(`leaf with ${label}`, leafWith({ more: [extension] })),
          bad(`intermediate with ${label}`, under({ extensions: [f.basicConstraints(true, 0), f.authorityUsage, extension] })),
        ];
      }),
    ),
  );
}

export function identities(): ChainCase[] {
  const uri = (text: string) => ({ uniformResourceIdentifier: text });
  const named = (text: string) => leafWith({ names: f.names(uri(text)) });
  const lists: [string, Parameters<typeof f.names>][] = [
    ['no name in the list', []],
    ['the same URI twice', [uri(f.URI), uri(f.URI)]],
    ['two URIs', [uri(f.URI), uri('spiffe://c1/site/s1/node/aaaaaaaaaaaa')]],
    ['a foreign URI first', [uri('https://example.com/'), uri(f.URI)]],
    ['a DNS name too', [uri(f.URI), { dNSName: 'c1.example' }]],
    ['a DNS name only', [{ dNSName: 'c1.example' }]],
    ['a mail address too', [uri(f.URI), { rfc822Name: 'a@c1.example' }]],
    ['an address too', [uri(f.URI), { iPAddress: '10.0.0.1' }]],
    ['65 names', Array.from({ length: 65 }, () => uri(f.URI))],
  ];
  const texts: [string, string][] = [
    ['of another scheme', f.URI.replace('spiffe:', 'https:')],
    ['in capitals', f.URI.toUpperCase()],
    ['with a slash behind', `${f.URI}/`],
    ['with a query', `${f.URI}?a`],
    ['with a fragment', `${f.URI}#a`],
    ['with a port', f.URI.replace('c1', 'c1:443')],
    ['with a user', f.URI.replace('c1', 'a@c1')],
    ['with dots in its path', f.URI.replace('s1', 's1/../s2')],
    ['with an escape', f.URI.replace('s1', '%73%31')],
    ['with a space before', ` ${f.URI}`],
    ['with a space behind', `${f.URI} `],
    ['with a zero octet', `${f.URI}\0`],
    ['with a zero octet and more', `${f.URI}\0.example`],
    ['with a line break', `${f.URI}\n`],
    ['without a node', 'spiffe://c1/site/s1'],
    ['without a site', `spiffe://c1/node/${f.NODE}`],
    ['of an empty cluster', `spiffe:///site/s1/node/${f.NODE}`],
    ['of a long site', `spiffe://c1/site/${'s'.repeat(64)}/node/${f.NODE}`],
    ['of a node id in capitals', 'spiffe://c1/site/s1/node/0123456789AB'],
    ['of a short node id', 'spiffe://c1/site/s1/node/0123456789'],
    ['of the tower at a site', 'spiffe://c1/site/s1/node/tower'],
    ['of a node at the tower’s', `spiffe://c1/site/tower/node/${f.NODE}`],
    ['of a boot identity', `spiffe://c1/site/s1/boot/${f.NODE}`],
    ['of an operator', 'spiffe://c1/operator/alice'],
    ['of one character', 'x'],
    ['that is empty', ''],
    ['of 2,000 characters', `spiffe://c1/site/s1/node/${'a'.repeat(2_000)}`],
  ];
  const lent = forgeIntermediate(root, { extensions: [f.basicConstraints(true, 0), f.authorityUsage, f.names(uri(f.URI))] });
  const nameless = forgeLeaf(lent, { names: null });
  const recorded: [string, RecordedFingerprint, Verdict][] = [
    ['that is the recorded one', sha256(leaf.der), 'accepted'],
    ['of a node that was revoked', 'revoked', 'certificate_revoked'],
    ['of a node that nobody knows', 'unknown', 'certificate_revoked'],
    ['that was replaced', new Uint8Array(32), 'certificate_revoked'],
    ['beside an empty record', new Uint8Array(0), 'certificate_revoked'],
    ['where its issuer is recorded', sha256(intermediate.der), 'certificate_revoked'],
  ];
  return [
    ...lists.map(([name, list]) => bad(`leaf with ${name}`, leafWith({ names: f.names(...list) }))),
    ...texts.map(([name, text]) => bad(`leaf with a URI ${name}`, named(text))),
    bad('leaf without names', leafWith({ names: null })),
    bad('leaf without names, and an intermediate that has its URI', of(nameless, lent)),
    good('leaf with its URI, and an intermediate that has it too', of(forgeLeaf(lent), lent)),
    one('another cluster', named(`spiffe://c2/site/s1/node/${f.NODE}`), 'wrong_cluster'),
    one('a cluster that begins alike', named(`spiffe://c1x/site/s1/node/${f.NODE}`), 'wrong_cluster'),
    one(
      'another cluster, under a stranger',
      of(forgeLeaf(strangeIntermediate, { names: f.names(uri(`spiffe://c2/site/s1/node/${f.NODE}`)) }), strangeIntermediate),
      'wrong_cluster',
    ),
    one('another node', named('spiffe://c1/site/s1/node/aaaaaaaaaaaa'), 'accepted', { asServer: 'wrong_node' }),
    one('another site', named(`spiffe://c1/site/s2/node/${f.NODE}`), 'accepted', { asServer: 'wrong_node' }),
    one('the tower', named('spiffe://c1/site/tower/node/tower'), 'accepted', { asServer: 'wrong_node' }),
    one(
      'another node, and the wanted one behind it',
      of(forgeLeaf(intermediate, { names: f.names(uri('spiffe://c1/site/s1/node/aaaaaaaaaaaa')) }), intermediate, leaf),
      'certificate_invalid',
    ),
    ...recorded.map(([name, value, verdict]) => one(`leaf ${name}`, of(leaf, intermediate), verdict, { recorded: value })),
  ];
}
