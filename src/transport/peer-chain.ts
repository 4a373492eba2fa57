/** The certificates that the other end of a TLS connection has shown, for whoever judges them; nothing is judged here. */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';

/** What each connection has shown. Node gives the issuers once only: whoever asks again gets the leaf alone. TLS 1.3 lets nobody show another chain later. */
const shown = new WeakMap<Socket, readonly Uint8Array[]>();

/** DER, leaf first; empty where none was shown. The same at every call. */
export function chainOf(socket: Socket): readonly Uint8Array[] {
  const known = shown.get(socket);
  if (known !== undefined) return known;
  const chain = readChain(socket);
  // Before the handshake is through there is none yet.
  if (chain.length > 0) shown.set(socket, chain);
  return chain;
}

function readChain(socket: Socket): readonly Uint8Array[] {
  const chain: Uint8Array[] = [];
  if (!(socket instanceof TLSSocket)) return chain;
  let next = socket.getPeerX509Certificate();
  // The root of a chain is its own issuer.
  while (next !== undefined && chain.length < limits.certificate_chain_certs_max) {
    const der = new Uint8Array(next.raw);
    if (chain.some((known) => equalBytes(known, der))) break;
    chain.push(der);
    next = next.issuerCertificate;
  }
  return chain;
}
