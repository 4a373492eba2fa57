/** `AccessStore` in SQL: which query is a read, and which a transaction. The queries are beside it. */
import type { Kysely, Transaction } from 'kysely';
import type { Tables } from '../schema/tables.ts';
import type { AccessStore } from './access-store.ts';
import { admitBundle, createOperator, findOperator, operatorPage, redeemBundle, revokeOperator, setBundle } from './store-sql-operators.ts';
import { renewOperator, useNextLeaf } from './store-sql-operator-renewal.ts';
import { createSession, endSession, findSession, sessionPage } from './store-sql-sessions.ts';

export interface SqlAccess {
  read<Result>(query: (db: Kysely<Tables>) => Promise<Result>): Promise<Result>;
  write<Result>(change: (tx: Transaction<Tables>) => Promise<Result>): Promise<Result>;
}

export function sqlAccessStore({ read, write }: SqlAccess): AccessStore {
  return {
    createOperator: (operator, bundle, by) => write((tx) => createOperator(tx, operator, bundle, by)),
    setBundle: (id, bundle, by) => write((tx) => setBundle(tx, id, bundle, by)),
    operators: (page) => read((db) => operatorPage(db, page)),
    operator: (id) => read((db) => findOperator(db, id)),
    admit: (proof, csrHash, at_ms) => read((db) => admitBundle(db, proof, csrHash, at_ms)),
    redeem: (proof, leaf, at_ms) => write((tx) => redeemBundle(tx, proof, leaf, at_ms)),
    renewOperator: (id, leaf, at_ms) => write((tx) => renewOperator(tx, id, leaf, at_ms)),
    useNextLeaf: (id, fingerprint, at_ms) => write((tx) => useNextLeaf(tx, id, fingerprint, at_ms)),
    revokeOperator: (id, by) => write((tx) => revokeOperator(tx, id, by)),
    createSession: (session, by) => write((tx) => createSession(tx, session, by)),
    session: (hash, at_ms) => read((db) => findSession(db, hash, at_ms)),
    sessions: (page, at_ms) => read((db) => sessionPage(db, page, at_ms)),
    endSession: (id, action, by) => write((tx) => endSession(tx, id, action, by)),
  };
}
