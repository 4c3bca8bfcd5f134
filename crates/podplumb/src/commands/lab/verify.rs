//! `podplumb lab verify`.

use lab::Labs;
use lab::verify::{Options, verify};

use crate::arguments::{ReportShape, VerifyOptions};
use crate::output::{Ended, hinted, paint, print};

pub(crate) fn run(options: &VerifyOptions, labs: &Labs) -> anyhow::Result<Ended> {
    let record = super::record(labs, &options.lab)?;
    let wiring = &record.wiring;
    if wiring.expect.is_empty() {
        let hint = "say it in the file: `expect: [ping a -> b]`, and `podplumb lab up` again";
        return Err(hinted(format!("nothing is expected of the lab {}", wiring.lab), hint));
    }
    let open = |machine: &str| labs.pinned(&wiring.lab, machine);
    let report = verify(wiring, &open, &Options { within: options.within, ..Options::default() });
    let text = match options.output {
        ReportShape::Text => report.text(paint()),
        ReportShape::Json => report.json(),
        ReportShape::Junit => report.junit(),
    };
    print(&text)?;
    Ok(if report.holds() { Ended::Fine } else { Ended::Found })
}
