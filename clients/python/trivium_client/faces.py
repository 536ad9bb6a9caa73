"""The parts of the synchronous SDK: each call is the twin of one of the asynchronous SDK.  Part of `synchronous`."""

from trivium_client import (
    administration,
    auditing,
    batches,
    documents,
    files,
    jobs,
    metering,
    models,
    policies,
    quotas,
    sources,
    sweeps,
    training,
)
from trivium_client.twins import Face, awaited, iterated


class Collections(Face[documents.Collections]):
    """See `trivium_client.documents.Collections`."""

    create = awaited(documents.Collections.create)
    list = iterated(documents.Collections.list)
    update = awaited(documents.Collections.update)
    delete = awaited(documents.Collections.delete)
    get = awaited(documents.Collections.get)
    reindex = iterated(documents.Collections.reindex)
    reembed = awaited(documents.Collections.reembed)
    reembedded = awaited(documents.Collections.reembedded)
    cancel_reembedding = awaited(documents.Collections.cancel_reembedding)


class Documents(Face[documents.Documents]):
    """See `trivium_client.documents.Documents`."""

    add = awaited(documents.Documents.add)
    add_folder = awaited(documents.Documents.add_folder)
    follow_folder = iterated(documents.Documents.follow_folder)
    add_text = awaited(documents.Documents.add_text)
    get = awaited(documents.Documents.get)
    list = iterated(documents.Documents.list)
    text = awaited(documents.Documents.text)
    delete = awaited(documents.Documents.delete)
    watch = iterated(documents.Documents.watch)
    search = awaited(documents.Documents.search)
    tune = awaited(documents.Documents.tune)
    search_pages = iterated(documents.Documents.search_pages)
    count = awaited(documents.Documents.count)
    matching = iterated(documents.Documents.matching)
    summarize = awaited(documents.Documents.summarize)


class Sources(Face[sources.Sources]):
    """See `trivium_client.sources.Sources`."""

    add = awaited(sources.Sources.add)
    get = awaited(sources.Sources.get)
    list = iterated(sources.Sources.list)
    wait = awaited(sources.Sources.wait)
    cancel = awaited(sources.Sources.cancel)
    delete = awaited(sources.Sources.delete)


class Datasets(Face[training.Datasets]):
    """See `trivium_client.training.Datasets`."""

    upload = awaited(training.Datasets.upload)
    get = awaited(training.Datasets.get)
    list = iterated(training.Datasets.list)
    validate = awaited(training.Datasets.validate)
    problems = iterated(training.Datasets.problems)
    preview = awaited(training.Datasets.preview)
    delete = awaited(training.Datasets.delete)


class Jobs(Face[jobs.Jobs]):
    """See `trivium_client.jobs.Jobs`."""

    create = awaited(jobs.Jobs.create)
    estimate = awaited(jobs.Jobs.estimate)
    get = awaited(jobs.Jobs.get)
    list = iterated(jobs.Jobs.list)
    like = awaited(jobs.Jobs.like)
    cancel = awaited(jobs.Jobs.cancel)
    pause = awaited(jobs.Jobs.pause)
    resume = awaited(jobs.Jobs.resume)
    checkpoints = awaited(jobs.Jobs.checkpoints)
    publish = awaited(jobs.Jobs.publish)
    watch = iterated(jobs.Jobs.watch)
    wait = awaited(jobs.Jobs.wait)


class Sweeps(Face[sweeps.Sweeps]):
    """See `trivium_client.sweeps.Sweeps`."""

    create = awaited(sweeps.Sweeps.create)
    estimate = awaited(sweeps.Sweeps.estimate)
    get = awaited(sweeps.Sweeps.get)
    list = iterated(sweeps.Sweeps.list)
    like = awaited(sweeps.Sweeps.like)
    cancel = awaited(sweeps.Sweeps.cancel)
    watch = iterated(sweeps.Sweeps.watch)


class Recipes(Face[sweeps.Recipes]):
    """See `trivium_client.sweeps.Recipes`."""

    list = awaited(sweeps.Recipes.list)
    fill = awaited(sweeps.Recipes.fill)


class Models(Face[models.Models]):
    """See `trivium_client.models.Models`."""

    list = iterated(models.Models.list)
    get = awaited(models.Models.get)
    versions = iterated(models.Models.versions)
    version = awaited(models.Models.version)
    add_version = awaited(models.Models.add_version)
    add_folder = awaited(models.Models.add_folder)
    import_model = awaited(models.Models.import_model)
    merge = awaited(models.Models.merge)
    base_digest = awaited(models.Models.base_digest)
    download = awaited(models.Models.download)
    lineage = awaited(models.Models.lineage)
    aliases = iterated(models.Models.aliases)
    alias = awaited(models.Models.alias)
    set_alias = awaited(models.Models.set_alias)
    roll_back = awaited(models.Models.roll_back)
    delete_alias = awaited(models.Models.delete_alias)
    wait_alias = awaited(models.Models.wait_alias)
    alias_moves = iterated(models.Models.alias_moves)
    update = awaited(models.Models.update)
    tag = awaited(models.Models.tag)
    evaluate = awaited(models.Models.evaluate)
    search = iterated(models.Models.search)
    family = awaited(models.Models.family)
    set_canary = awaited(models.Models.set_canary)
    create_gate = awaited(models.Models.create_gate)
    gates = iterated(models.Models.gates)
    delete_gate = awaited(models.Models.delete_gate)
    delete = awaited(models.Models.delete)
    delete_version = awaited(models.Models.delete_version)
    restore = awaited(models.Models.restore)
    restore_version = awaited(models.Models.restore_version)
    changes = iterated(models.Models.changes)
    served = awaited(models.Models.served)
    route = awaited(models.Models.route)
    engines = awaited(models.Models.engines)
    resident = awaited(models.Models.resident)
    tiers = awaited(models.Models.tiers)
    load = awaited(models.Models.load)
    unload = awaited(models.Models.unload)
    protect = awaited(models.Models.protect)


class Files(Face[files.Files]):
    """See `trivium_client.files.Files`."""

    upload = awaited(files.Files.upload)
    get = awaited(files.Files.get)
    list = iterated(files.Files.list)
    read = awaited(files.Files.read)
    download = awaited(files.Files.download)
    delete = awaited(files.Files.delete)


class Batches(Face[batches.Batches]):
    """See `trivium_client.batches.Batches`."""

    create = awaited(batches.Batches.create)
    get = awaited(batches.Batches.get)
    list = iterated(batches.Batches.list)
    cancel = awaited(batches.Batches.cancel)
    wait = awaited(batches.Batches.wait)


class Keys(Face[administration.Keys]):
    """See `trivium_client.administration.Keys`."""

    create = awaited(administration.Keys.create)
    list = iterated(administration.Keys.list)
    rotate = awaited(administration.Keys.rotate)
    revoke = awaited(administration.Keys.revoke)


class Audit(Face[auditing.Audit]):
    """See `trivium_client.auditing.Audit`."""

    list = iterated(auditing.Audit.list)
    verify = awaited(auditing.Audit.verify)


class Users(Face[administration.Users]):
    """See `trivium_client.administration.Users`."""

    create = awaited(administration.Users.create)
    get = awaited(administration.Users.get)
    list = iterated(administration.Users.list)
    update = awaited(administration.Users.update)
    delete = awaited(administration.Users.delete)


class Projects(Face[administration.Projects]):
    """See `trivium_client.administration.Projects`."""

    create = awaited(administration.Projects.create)
    list = iterated(administration.Projects.list)
    delete = awaited(administration.Projects.delete)


class Policies(Face[policies.Policies]):
    """See `trivium_client.policies.Policies`."""

    get = awaited(policies.Policies.get)
    set = awaited(policies.Policies.set)
    remove = awaited(policies.Policies.remove)


class Quotas(Face[quotas.Quotas]):
    """See `trivium_client.quotas.Quotas`."""

    get = awaited(quotas.Quotas.get)
    set = awaited(quotas.Quotas.set)


class Usages(Face[metering.Usages]):
    """See `trivium_client.metering.Usages`."""

    export = iterated(metering.Usages.export)


class Tenants(Face[administration.Tenants]):
    """See `trivium_client.administration.Tenants`."""

    create = awaited(administration.Tenants.create)
    disable = awaited(administration.Tenants.disable)
    list = iterated(administration.Tenants.list)
