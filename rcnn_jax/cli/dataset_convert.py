"""`dataset_convert`: KITTI or COCO labels to the TFRecords that training reads."""

from argparse import Namespace

from rcnn_jax.cli.flags import choose_devices, existing_file, existing_folder, flag_notes, what_lies
from rcnn_jax.cli.outputs import CommandPaths, beside, common
from rcnn_jax.cli.session import Session, read_spec
from rcnn_jax.data.conversion.report import ConversionReport
from rcnn_jax.data.count_table import counts_table, report_findings
from rcnn_jax.data.findings import NO_OBJECT, Finding
from rcnn_jax.errors import UsageError
from rcnn_jax.kinds import Kind
from rcnn_jax.tasks.families import family


def run(args: Namespace, kind: Kind) -> int:
    """Converts as the command line says; returns the exit code.

    Raises:
      RcnnError: the flags, the spec, the images or the labels are at fault.
    """
    choose_devices(args, "dataset_convert")
    title = f"{kind} dataset_convert"
    with Session(title, status_folder=args.workdir, log_file=args.log_file) as session:
        if family(kind).records_from == "spec":
            from rcnn_jax.tasks.dataset_convert import convert_detectnet

            config, _ = read_spec(session, args, "dataset_convert")
            # The original's -o is a prefix, which many take for a folder: the files would be looked
            # for inside.
            if what_lies(args.output) == "folder":
                session.note(
                    f"-o {args.output} is the beginning of file names: the records lie beside the "
                    f"folder, as {args.output}-fold-*"
                )
            report = convert_detectnet(config, args.output, args.validation_fold)
        else:
            for note in flag_notes(args):
                session.note(note)
            report = _convert_coco_masks(args)
        show(report, session, verbose=args.verbose)
    return 0


def paths(args: Namespace, kind: Kind) -> CommandPaths:
    """Lists the paths of the inputs and outputs of a conversion."""
    if family(kind).records_from == "spec":
        known, _ = common(args, "dataset_convert", None)
        if args.output.name in ("", ".."):
            raise UsageError(
                f"-o {args.output}: expected a folder and the beginning of the file names, such as "
                f"{args.output}/records"
            )
        warnings = beside(args.output, "_warning.json")
        known.write("the folder of -o", args.output.parent, "folder")
    else:
        # The conversion of COCO has no spec, all of it is in flags.
        known, _ = common(Namespace(**{**vars(args), "spec": None}), kind, None)
        known.read("-i", existing_folder(args.image_dir, "-i"), "folder")
        known.read("-a", existing_file(args.annotations_file, "-a"))
        tag = args.tag or args.annotations_file.stem
        warnings = args.output / f"{tag}_warnings.json"
        known.write("-o", args.output, "folder")
    known.write("the warnings", warnings)
    return known


def show(report: ConversionReport, session: Session, *, verbose: bool) -> None:
    """Prints the number of objects per class and partition, and where the files are."""
    session.console.print(counts_table(report.columns))
    if verbose:
        for path in report.files:
            session.console.print(str(path), markup=False)
    session.console.print(
        f"{report.images} images in {len(report.files)} files, {report.skipped} objects left out",
        markup=False,
    )
    report_findings(report.findings, session)
    if not any(report.objects.values()):
        # Records without objects train without an error and find nothing: mostly a class mapping
        # that fits no label.
        report_findings([Finding(NO_OBJECT, str(report.files[0].parent))], session)
    if report.warnings_file:
        session.note(f"what was left out is listed in {report.warnings_file}")
    session.status(
        "RUNNING",
        "Conversion finished.",
        categorical={"num_objects": [{"label": k, "num": v} for k, v in report.objects.items()]},
    )


def _convert_coco_masks(args: Namespace) -> ConversionReport:
    from rcnn_jax.data.conversion.mask_rcnn import MaskRcnnConversion, convert_mask_rcnn

    if args.num_shards < 1:
        raise UsageError(f"--num_shards {args.num_shards}: expected 1 or more")
    return convert_mask_rcnn(
        MaskRcnnConversion(
            image_dir=args.image_dir,
            annotations_file=args.annotations_file,
            output_dir=args.output,
            tag=args.tag or "",
            num_shards=args.num_shards,
        )
    )
