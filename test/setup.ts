/** Before each test file: the seed of everything that fast-check makes. */
import * as FastCheck from "effect/FastCheck"

FastCheck.configureGlobal({ ...FastCheck.readConfigureGlobal(), seed: Number(process.env["JOBLIB_TEST_SEED"]) })
