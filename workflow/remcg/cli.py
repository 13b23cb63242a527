"""The command ``remcg``: thin over the library; heavy imports wait until they are needed."""

import argparse
import os
import sys

from remcg import __version__
from remcg.errors import InputError


def main(arguments=None):
    """Run one subcommand; return 0, 1 for a difference that was found, 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as head, has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser():
    parser = argparse.ArgumentParser(
        prog="remcg", description="Bottom-up coarse-graining by relative entropy minimisation."
    )
    parser.add_argument("--version", action="version", version=f"remcg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="check a campaign and its inputs, without running it")
    check.add_argument("config")
    check.set_defaults(run=_check)

    schema = commands.add_parser("schema", help="print the JSON schema of a campaign's YAML file")
    schema.add_argument("--tables", action="store_true", help="print every key as Markdown instead")
    schema.set_defaults(run=_schema)

    verify = commands.add_parser(
        "verify",
        help="say what changed since results were made, and whether a rerun gives the same bits",
    )
    verify.add_argument("results", help="results/<campaign>")
    verify.add_argument("--config", help="default: the file that the campaign was run with")
    verify.add_argument(
        "--original", metavar="FOLDER", help="compare a rerun with the results of an archive"
    )
    verify.set_defaults(run=_verify)

    archive = commands.add_parser(
        "archive", help="write a campaign with its code and inputs as one file, to run elsewhere"
    )
    archive.add_argument("results", help="results/<campaign>")
    archive.add_argument("-o", "--output", required=True, help=".tar.gz or .zip")
    archive.add_argument("--config", help="default: the file that the campaign was run with")
    archive.add_argument(
        "--without-references", action="store_true", help="hashes instead of trajectories and logs"
    )
    archive.add_argument(
        "--dirty", action="store_true", help="allow code that is not committed; it is marked"
    )
    archive.set_defaults(run=_archive)

    compare = commands.add_parser(
        "compare",
        help="two model.json: whether they agree; two or more results/<campaign>: a page with both",
    )
    compare.add_argument("first")
    compare.add_argument("others", nargs="+", metavar="second")
    compare.add_argument(
        "--output", default="comparison.html", help="page of a comparison of campaigns"
    )
    compare.set_defaults(run=_compare)

    maps = commands.add_parser(
        "import", help="print a mapping file of VOTCA, OpenMSCG or AceCG as one of remcg"
    )
    maps.add_argument("files", nargs="+", help="VOTCA's XML, one per molecule, or a YAML file")
    maps.add_argument("--topology", help="what the atom numbers of a YAML file count in")
    maps.add_argument("--output", help="file to write instead of printing")
    maps.set_defaults(run=_import)

    methods = commands.add_parser(
        "methods", help="run a campaign with several methods and compare what they make of it"
    )
    methods.add_argument("config")
    methods.add_argument(
        "--methods", help="default: rem,ibi,imc,force_matching,boltzmann", metavar="A,B"
    )
    methods.add_argument("--cores", type=int, default=os.cpu_count(), help="for all jobs")
    methods.add_argument("--state", help="whose g(r) and U(r) are drawn")
    methods.set_defaults(run=_methods)
    return parser


def _check(options):
    from remcg.config import load
    from remcg.mapping import check_campaign

    campaign = load(options.config)
    check_campaign(campaign)
    if campaign.sweep:
        from remcg import sweep

        print("\n  ".join(["sweep", *sweep.describe(campaign)]))
    return 0


def _schema(options):
    from remcg import config

    print(config.tables() if options.tables else config.schema_text(), end="")
    return 0


def _verify(options):
    from remcg.verify import compare_with_original, verify

    holds, text = verify(options.results, options.config)
    print(text)
    if options.original:
        agrees, text = compare_with_original(options.results, options.original)
        print(f"\n{text}")
        holds = holds and agrees
    return 0 if holds else 1


def _archive(options):
    from remcg.archive import archive

    names = archive(
        options.results,
        options.output,
        options.config,
        not options.without_references,
        options.dirty,
    )
    print(f"{options.output}: {len(names)} files; its README.md says how to run it again")
    return 0


def _compare(options):
    paths = [options.first, *options.others]
    if all(map(os.path.isdir, paths)):
        from remcg.campaigns import compare_campaigns

        print(compare_campaigns(paths, options.output))
        print(f"page: {options.output}")
        return 0
    if len(paths) > 2:
        raise InputError(
            f"compare: found {len(paths)} paths that are not all folders; give two model.json, or"
            " two or more folders results/<campaign>"
        )
    from remcg.compare import compare

    agrees, text = compare(*paths)
    print(text)
    return 0 if agrees else 1


def _import(options):
    from remcg.import_maps import import_maps
    from remcg.io import write_text

    text = import_maps(options.files, options.topology)
    if options.output:
        write_text(options.output, text)
    else:
        print(text, end="")
    return 0


def _methods(options):
    from remcg.method_comparison import METHODS, compare_methods

    chosen = options.methods.split(",") if options.methods else None
    for name in chosen or ():
        if name not in METHODS:
            raise InputError(f"--methods: found '{name}', allowed are {', '.join(METHODS)}")
    codes = compare_methods(options.config, chosen, options.cores, options.state)
    return max(codes.values(), default=0)


if __name__ == "__main__":
    sys.exit(main())
