/**
 * What tower and node say to each other while enrolling and about snapshots: the schemas, and the one way of checking bytes against
 * them. Shapes only: whether a certificate, signature or token is good is decided elsewhere.
 */
import { type Static, type TSchema, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { fromBase64 } from '../identity/base64.ts';
import { AppAnswerSchema, AppRequestSchema, AppSchema } from './app-wire.ts';
import { proofKinds } from './proof.ts';
import { RulesSchema } from './rule-wire.ts';
import { closed, Label, NodeId, Port } from './shapes.ts';

const certificate_base64_chars_max = Math.ceil(limits.certificate_bytes_max / 3) * 4;
const BASE64 = '^[A-Za-z0-9+/]+={0,2}$';
/** Base64 of at most so many characters. */
export const base64 = (chars_max: number) => Type.String({ minLength: 4, maxLength: chars_max, pattern: BASE64 });
export const CertificateText = base64(certificate_base64_chars_max);
export const CsrText = base64(Math.ceil(limits.csr_bytes_max / 3) * 4);

export const Sha256Hex = Type.String({ pattern: '^[0-9a-f]{64}$' });
const Version = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });

export const EndpointSchema = closed({
  host: Type.String({ pattern: '^[A-Za-z0-9.:-]+$', maxLength: limits.endpoint_host_chars_max }),
  tcp: Port,
  udp: Type.Union([Port, Type.Null()]),
});
/** Where a node or tower can be dialed. `udp` is null where it does not speak QUIC. */
export type Endpoint = Readonly<Static<typeof EndpointSchema>>;

export const EndpointsSchema = Type.Array(EndpointSchema, { maxItems: limits.node_endpoints_max });

/** Answer to `POST /v1/enroll/challenge`. */
export const ChallengeAnswerSchema = closed({
  nonce: Type.String({ minLength: 16, maxLength: limits.enroll_nonce_chars_max, pattern: '^[A-Za-z0-9_-]+$' }),
  expires_ms: Version,
});

export const HostFactsSchema = closed({
  machine: Sha256Hex,
  macs: Sha256Hex,
  addresses: Type.Array(Type.String({ maxLength: 45, pattern: '^[0-9a-fA-F:.]+$' }), { maxItems: limits.host_addresses_max }),
});

/** Asks for what brings a node back after a restart: a boot identity, and its site's tokens. */
export const BootRequestSchema = closed({
  /** Of the boot key. */
  csr: CsrText,
  /** Whether the node's store will be sealed with the site's token. */
  sealed: Type.Boolean(),
  /** By the key of the node's own request, over both requests: whoever passes it on cannot ask for a key of his. */
  signature: base64(96),
});
export type BootRequest = Static<typeof BootRequestSchema>;

export const EnrollRequestSchema = closed({
  /** What stands beside `kind` and `nonce` is the kind's own, and checked by its own schema. */
  proof: Type.Object(
    { kind: Type.Enum([...proofKinds]), nonce: Type.Optional(Type.String({ maxLength: limits.enroll_nonce_chars_max })) },
    { additionalProperties: true },
  ),
  csr: CsrText,
  name: Label,
  site: Type.Optional(Label),
  listen: EndpointsSchema,
  facts: Type.Optional(HostFactsSchema),
  boot: Type.Optional(BootRequestSchema),
});
type Proved = Static<typeof EnrollRequestSchema>;
export type EnrollRequest = Omit<Proved, 'proof'> & { proof: Proved['proof'] & Record<string, unknown> };

/** A signed document, as `identity/signed-document.ts` makes and opens it. */
export const EnvelopeSchema = closed({
  payload: base64(limits.snapshot_envelope_bytes_max),
  signature: base64(512),
  chain: Type.Array(CertificateText, { minItems: 1, maxItems: limits.certificate_chain_certs_max }),
});
export type Envelope = Static<typeof EnvelopeSchema>;

export const TrustSchema = closed({
  version: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
  roots: Type.Array(CertificateText, { minItems: 1, maxItems: limits.trust_roots_max }),
});

export const EnrollAnswerSchema = closed({
  node: NodeId,
  name: Label,
  site: Label,
  tenant: Type.Union([Label, Type.Null()]),
  cluster: Label,
  chain: Type.Array(CertificateText, { minItems: 1, maxItems: limits.certificate_chain_certs_max }),
  trust: TrustSchema,
  snapshot: EnvelopeSchema,
  /** The answer to `boot` (boot-request.ts); absent where that was not asked. */
  site_secrets: Type.Optional(EnvelopeSchema),
});
export type EnrollAnswer = Static<typeof EnrollAnswerSchema>;

/** `POST /v1/preflight`: an installer registers a node. `csr`: of the key that will sign the challenge, which is not the node's own. */
export const PreflightRequestSchema = closed({
  token: Type.String({ maxLength: limits.token_chars_max }),
  csr: CsrText,
  name: Type.Optional(Label),
  site: Type.Optional(Label),
});
export type PreflightRequest = Static<typeof PreflightRequestSchema>;

export const PreflightAnswerSchema = closed({
  node: NodeId,
  name: Label,
  site: Label,
  tenant: Type.Union([Label, Type.Null()]),
  cluster: Label,
  /** NODE.SITE.CLUSTER, and the name of the site's nodes together. */
  host: Type.String({ maxLength: 3 * 64 }),
  pool: Type.String({ maxLength: 2 * 64 }),
  /** The call-home certificate and its issuer. */
  chain: Type.Array(CertificateText, { minItems: 1, maxItems: limits.certificate_chain_certs_max }),
  expires_ms: Version,
  trust: TrustSchema,
});
export type PreflightAnswer = Static<typeof PreflightAnswerSchema>;

/** Leaves that are accepted beside a peer's own while that is being renewed. */
const AlsoSchema = Type.Array(Sha256Hex, { minItems: 1, maxItems: 1 + limits.leaf_old_max });
/** What rules select a node by, beside its id and site; absent: none. */
const labels = {
  /** The version of the last change of a rule that concerns it: what it has to have heard of before others let it begin a channel. Absent: none was ever changed. */
  epoch: Type.Optional(Version),
  roles: Type.Optional(Type.Array(Label, { maxItems: limits.node_roles_max })),
  tenant: Type.Optional(Label),
};

export const SnapshotSchema = closed({
  version: Version,
  cluster: Label,
  issued_ms: Version,
  ttl_s: Type.Integer({ minimum: 1 }),
  node: closed({ id: NodeId, name: Label, site: Label, ...labels }),
  tower: closed({ id: Type.Literal('tower'), fingerprint: Sha256Hex, endpoints: EndpointsSchema }),
  peers: Type.Array(
    closed({
      id: NodeId,
      name: Label,
      site: Label,
      fingerprint: Sha256Hex,
      also: Type.Optional(AlsoSchema),
      endpoints: EndpointsSchema,
      /** It is to be revoked then: nothing begins with it, and what is there ends. */
      leaving_ms: Type.Optional(Version),
      ...labels,
      /** Of its boot leaf: two while one follows the other, none until it has one. */
      boot: Type.Optional(Type.Array(Sha256Hex, { minItems: 1, maxItems: 2 })),
    }),
    { maxItems: limits.site_nodes_max },
  ),
  /** Nodes that would be among its peers, were they not revoked or disabled: the ones of which that was said last. */
  gone: Type.Optional(Type.Array(closed({ id: NodeId, site: Label, why: Type.Enum(['revoked', 'disabled']) }), { maxItems: limits.snapshot_gone_max })),
  trust: TrustSchema,
  /** While leaves are issued under another root: whoever holds one under none but others renews it now, at a moment of its own within so long. */
  reissue: Type.Optional(closed({ root: Sha256Hex, over_ms: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) })),
  app: Type.Optional(AppSchema),
  /** Absent where none concerns the node. */
  rules: Type.Optional(RulesSchema),
});
export type Snapshot = Static<typeof SnapshotSchema>;

/** First and later messages of a node on the flow of service `snapshot`: what it has, where it can be dialed now, and of which trust bundle it has the roots on its disk. */
export const SnapshotRequestSchema = closed({ have: Version, listen: EndpointsSchema, trust: Type.Optional(Version) });
export type SnapshotRequest = Static<typeof SnapshotRequestSchema>;

/** Name of the flow's service. */
export const SNAPSHOT_SERVICE = 'snapshot';

const IdentityFileSchema = closed({
  format: Type.Literal(1),
  cluster: Label,
  site: Label,
  node: NodeId,
  name: Label,
  /** Where the tower was when this node joined; the snapshot knows better. */
  tower: EndpointSchema,
  /** Of the cluster's root: `sha256:HEX`. */
  fingerprint: Type.String({ pattern: '^sha256:[0-9a-f]{64}$' }),
});
export type IdentityFile = Static<typeof IdentityFileSchema>;

export type Check<Shape> = (value: unknown) => Shape;

/** A compiled check. The result throws `request_invalid`, naming the first place that does not fit. */
export function checker<Schema extends TSchema>(schema: Schema): Check<Static<Schema>> {
  const compiled = Compile(schema);
  return (value) => {
    if (compiled.Check(value)) return value as Static<Schema>;
    // Of several complaints the deepest names the place; a schema's own come after those of what is inside it.
    const errors = [...compiled.Errors(value)];
    const first = errors.find((error) => error.keyword !== 'boolean') ?? errors[0];
    throw new SelvedgeError('request_invalid', { path: first?.instancePath || '/', why: first?.message ?? 'does not fit its schema' });
  };
}

/** Bytes from outside as JSON of this shape. @throws request_invalid, body_too_large */
export function readJson<Shape>(bytes: Uint8Array, bytes_max: number, check: Check<Shape>): Shape {
  if (bytes.length > bytes_max) throw new SelvedgeError('body_too_large', { max: bytes_max });
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new SelvedgeError('request_invalid', { path: '/', why: 'not JSON in UTF-8' });
  }
  return check(value);
}

export const checkChallengeAnswer = checker(ChallengeAnswerSchema);
export const checkPreflightAnswer = checker(PreflightAnswerSchema);
export const checkEnrollAnswer = checker(EnrollAnswerSchema);
export const checkSnapshot = checker(SnapshotSchema);
export const checkEnvelope = checker(EnvelopeSchema);
export const checkSnapshotRequest = checker(SnapshotRequestSchema);
export const checkAppRequest = checker(AppRequestSchema);
export const checkAppAnswer = checker(AppAnswerSchema);
export const checkIdentityFile = checker(IdentityFileSchema);

/** @throws argument_invalid where the addresses of a node take more room than a snapshot can give each */
export function checkEndpointsSize(endpoints: readonly Endpoint[]): void {
  const found = JSON.stringify(endpoints).length;
  if (found <= limits.node_endpoints_bytes_max) return;
  throw new SelvedgeError('argument_invalid', {
    name: 'listen',
    why: `its addresses take ${found} octets of JSON, at most ${limits.node_endpoints_bytes_max} allowed`,
  });
}

/** Base64 of a checked shape as bytes. @throws request_invalid */
export function bytesOf(text: string, bytes_max: number, path: string): Uint8Array {
  const bytes = fromBase64(text, bytes_max);
  if (bytes === null) throw new SelvedgeError('request_invalid', { path, why: `not base64 of at most ${bytes_max} octets` });
  return bytes;
}
