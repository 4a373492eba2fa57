/** Every table as it is now: what each migration made, columns that a later one added to an earlier one's table with it. */
import type { AccessTables } from './access.ts';
import type { AppNetworkTables } from './app-networks.ts';
import type { FirstTables } from './first.ts';
import type { GrantBindingTables } from './grant-binding.ts';
import type { GrantTables } from './grants.ts';
import type { LeafRenewalTables } from './leaf-renewals.ts';
import type { LeavingTables } from './leaving.ts';
import type { OperatorRenewalTables } from './operator-renewal.ts';
import type { ResourceTables } from './resources.ts';
import type { TrustTables } from './trust.ts';
import type { UnsealTables } from './unseal.ts';

/** Of several migrations that name one table, all its columns. */
export type Tables = Joined<
  Omit<FirstTables, 'tokens' | 'enrollments'> &
    AppNetworkTables &
    ResourceTables &
    GrantTables &
    GrantBindingTables &
    AccessTables &
    UnsealTables &
    LeafRenewalTables &
    LeavingTables &
    OperatorRenewalTables &
    TrustTables
>;

type Joined<Parts> = { [Table in keyof Parts]: { [Column in keyof Parts[Table]]: Parts[Table][Column] } };
