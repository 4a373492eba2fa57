/**
 * What is said about site tokens and unsealing: over the flow of service `site` between node and tower, and in `POST /v1/unseal` between a node that has just
 * started and whoever helps it. Shapes only. Every secret in them is in a sealed box (identity/sealed-box.ts).
 */
import { type Static, Type } from 'typebox';
import { limits } from '../base/limits.ts';
import { SEALED_BOX_BYTES_OVERHEAD } from '../identity/sealed-box.ts';
import { closed, NodeId } from './shapes.ts';
import { checker } from './wire.ts';

const base64 = (bytes_max: number) => Type.String({ minLength: 4, maxLength: Math.ceil(bytes_max / 3) * 4, pattern: '^[A-Za-z0-9+/]+={0,2}$' });
const Generation = Type.Integer({ minimum: 1, maximum: 0xffff_ffff });
const GenerationOrNone = Type.Integer({ minimum: 0, maximum: 0xffff_ffff });
const Box = base64(SEALED_BOX_BYTES_OVERHEAD + 32);
const Sha256Hex = Type.String({ pattern: '^[0-9a-f]{64}$' });

/** Name of the flow's service: class `fabric_control`, kind `messages`. */
export const SITE_SERVICE = 'site';

/** What a node says when the flow opens, and again whenever one of these has changed on its disk. */
export const SiteReportSchema = closed({
  /** Newest generation of the site token that it holds; 0: none. */
  have: GenerationOrNone,
  /** Generation that its store is sealed with; 0: its store is sealed in another way. */
  sealed: GenerationOrNone,
  /** Fingerprint of the boot leaf in its boot.json. */
  boot: Type.Union([Sha256Hex, Type.Null()]),
  /** A public key of this flow alone (SubjectPublicKeyInfo): what tokens are sealed to. */
  key: base64(limits.csr_bytes_max),
  /** Request for another one. */
  csr: Type.Optional(base64(limits.csr_bytes_max)),
});
export type SiteReport = Static<typeof SiteReportSchema>;

export const SiteNewsSchema = closed({
  /** The newest, and the one before it while both are in use; each in a box for the node's leaf. */
  tokens: Type.Array(closed({ generation: Generation, box: Box }), { maxItems: limits.site_token_generations_kept }),
  /** The answer to `csr`: leaf and intermediate. */
  boot: Type.Optional(Type.Array(base64(limits.certificate_bytes_max), { minItems: 2, maxItems: limits.certificate_chain_certs_max })),
});
export type SiteNews = Static<typeof SiteNewsSchema>;

/** What a node gets with its first certificate, signed: the same, and all of it. Boxes are for the key of its certificate. */
export const FirstSiteSchema = closed({
  node: NodeId,
  tokens: Type.Array(closed({ generation: Generation, box: Box }), { minItems: 1, maxItems: limits.site_token_generations_kept }),
  boot: Type.Array(base64(limits.certificate_bytes_max), { minItems: 2, maxItems: limits.certificate_chain_certs_max }),
});
export type FirstSite = Static<typeof FirstSiteSchema>;

/** The generation that the head of the node's store names. Who asks is in the certificate. */
export const UnsealRequestSchema = closed({ generation: Generation });
export const UnsealAnswerSchema = closed({ generation: Generation, box: Box });
export type UnsealAnswer = Static<typeof UnsealAnswerSchema>;

export const checkSiteReport = checker(SiteReportSchema);
export const checkSiteNews = checker(SiteNewsSchema);
export const checkFirstSite = checker(FirstSiteSchema);
export const checkUnsealAnswer = checker(UnsealAnswerSchema);

/** What boxes are for: a box for one of them opens as no other. */
export const boxPurposes = {
  siteToken: (site: string, generation: number) => `site token ${generation} of ${site}`,
  unsealKey: (node: string, generation: number) => `unseal key ${generation} of ${node}`,
} as const;
