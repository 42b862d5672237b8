"""The site's pages: a counter kept in the session, a menu, and employees whose menus the worker makes."""

from bot.handlers import handle_menu_command
from django.db import transaction
from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from connectbot.django import publish_on_commit
from employees.models import Employee
from employees.redis_integration import publish_user_created


@require_GET
def visits(request):
    """How often this visitor has come: kept in the session, that is in Redis."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


@csrf_exempt  # so that curl may try it
@require_POST
def create_employee(request):
    """Create an employee from the form's ``name`` and ``role``; the event goes out when the row is committed."""
    with transaction.atomic():
        employee = Employee.objects.create(
            name=request.POST["name"],
            role=request.POST.get("role", "employee"),
        )
        publish_on_commit(publish_user_created, employee.id, {"name": employee.name, "role": employee.role})
    return JsonResponse({"id": employee.id}, status=201)


@require_GET
def menu(request, user_id):
    """What the bot answers to /menu."""
    return JsonResponse(handle_menu_command(user_id), json_dumps_params={"ensure_ascii": False})
